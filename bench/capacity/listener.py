"""A process that keeps copies, and so hears of every change: what that costs is measured from outside."""

import time

import django

LOOK_SECONDS = 1.0  # Who has not been asked for a while stops listening.


def main() -> None:
    django.setup()
    from store import catalogue

    while True:
        catalogue.list_products_cached(catalogue.ProductQuery(limit=1))
        print("listening", flush=True)
        time.sleep(LOOK_SECONDS)


if __name__ == "__main__":
    main()
