# The MySQL image reads this once, when it has made its data: the user that the store connects as, with the
# rights that `manage.py database_user store` prints. Whoever has data already gives them with that command.
# shellcheck shell=bash disable=SC2016
store_password=$(printf %s "$STORE_PASSWORD" | sed -e 's/\\/\\\\/g' -e "s/'/''/g")
store_database=$(printf %s "${MYSQL_NAME:-django_redis_database}" | sed -e 's/`/``/g' -e 's/[_%]/\\&/g')
docker_process_sql <<STATEMENTS
CREATE USER IF NOT EXISTS 'store'@'%' IDENTIFIED BY '$store_password';
GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP, INDEX, REFERENCES ON \`$store_database\`.* TO 'store'@'%';
STATEMENTS
unset store_password store_database
