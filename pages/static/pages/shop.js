// The shop: a product whose price is kept up to date, and a basket that is changed in place. Without this
// module the forms do the same, a page at a time.

import { get, send } from "./api.js";
import { number } from "./format.js";
import { follow } from "./live.js";

const BASKET = "/store/basket/";
const [NOT_FOUND, TOO_MANY, UNAVAILABLE] = [404, 429, 503];
const byId = (id) => document.getElementById(id);
const isRefused = (input) => input.hasAttribute("aria-invalid");
const lineOf = (basket, id) => basket.lines.find((line) => String(line.product) === id);
const priceText = (price) => (price === null ? gettext("no price yet") : number(price));

// The API speaks English only.
function said({ status, message, retryAfterSeconds: seconds = 1 }) {
  if (status === UNAVAILABLE) return gettext("The basket does not answer at the moment. Please try again shortly.");
  if (status === NOT_FOUND) return gettext("This product is no longer in the store.");
  if (status !== TOO_MANY) return message;
  return interpolate(ngettext(
    "These were too many changes in a row. Please try again in %(seconds)s second.",
    "These were too many changes in a row. Please try again in %(seconds)s seconds.", seconds), { seconds: number(seconds) }, true);
}

// --- Both --------------------------------------------------------------------------------------------

function showPieces(basket) {
  const pieces = byId("pieces");
  if (pieces) pieces.textContent = number(basket.lines.reduce((sum, line) => sum + line.quantity, 0));
}

// Changes follow each other, so that the store carries them out, and answers are shown, in the order in
// which they were made.
let last = Promise.resolve();
const inTurn = (act) => (last = last.then(act, act));

// Calls act(fields) with what is in the form's fields now, whenever its turn comes.
function onSubmit(form, act) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const fields = new FormData(form);
    inTurn(() => act(fields));
  });
}

async function put(id, input, quantity) {
  const { data } = await send("PUT", `${BASKET}${id}/`, { quantity });
  input.removeAttribute("aria-invalid");
  showPieces(data);
  return data;
}

// --- A product ---------------------------------------------------------------------------------------

function openProduct(product) {
  const id = product.dataset.product;
  const [price, priceNote, putNote, form] = ["price", "price-note", "put-note", "put"].map(byId);
  const button = form.querySelector("button");
  let shown = JSON.parse(product.dataset.price);
  let news = 0; // Events and looks at the price: what was asked for before the latest does not hold any more.

  function show(value) {
    if (value === shown) return;
    priceNote.textContent = interpolate(gettext("The price has just changed. Before: %s"), [priceText(shown)]);
    priceNote.classList.add("just-changed");
    price.textContent = priceText(value);
    shown = value;
  }

  function gone() {
    priceNote.textContent = gettext("This product has just been taken out of the store.");
    priceNote.classList.add("just-changed");
    button.disabled = true;
  }

  function heard(name, event) {
    news += 1;
    if (name === "deleted") gone();
    else show(event.price);
  }

  async function look() {
    const asked = news += 1;
    try {
      const { data } = await get(product.dataset.priceUrl);
      if (asked === news) show(data.price);
    } catch (error) {
      if (error.status === NOT_FOUND && asked === news) gone();
      // Else what is shown stays; the next event, or the next connection, brings another look.
    }
  }

  follow((name, event) => {
    if (!event || event.id === undefined) look(); // Of a bulk nobody knows what it changed.
    else if (String(event.id) === id) heard(name, event);
  }, (isConnected) => {
    if (isConnected) look(); // It may have changed while nobody listened.
  });

  async function save(fields) {
    putNote.classList.remove("wrong");
    try {
      const { quantity } = lineOf(await put(id, byId("quantity"), fields.get("quantity")), id);
      button.textContent = gettext("Change quantity");
      putNote.textContent = interpolate(gettext("In your basket: %s"), [number(quantity)]);
    } catch (error) {
      putNote.classList.add("wrong");
      putNote.textContent = said(error);
    }
  }

  onSubmit(form, save);
}

// --- The basket --------------------------------------------------------------------------------------

function openBasket(whole) {
  const [total, tell, notes, nothing] = ["total", "said", "notes", "empty"].map(byId);
  const rows = () => [...whole.querySelectorAll("[data-product]")];
  const inputOf = (row) => row.querySelector("[name=quantity]");
  const unsaved = new Set(); // Inputs with a change that waits for its turn: no answer knows of it yet.

  function show(basket) {
    const isShown = (line) => whole.querySelector(`[data-product="${line.product}"]`);
    if (!basket.lines.every(isShown)) inTurn(reload); // Another tab has put something in.
    for (const row of rows()) {
      const line = lineOf(basket, row.dataset.product);
      if (line) showLine(row, line);
      else row.remove();
    }
    total.textContent = number(basket.total);
    whole.hidden = basket.lines.length === 0;
    nothing.hidden = !whole.hidden;
    for (const note of basket.notes) {
      const item = document.createElement("p");
      item.className = "notice";
      item.textContent = interpolate(gettext("Product %s is no longer in the store and was taken out of the basket."), [number(note.product)]);
      notes.append(item);
    }
    showPieces(basket);
  }

  function reload() {
    // What has been typed, or was refused, would be lost; the next answer brings another chance.
    const isOpen = (input) => isRefused(input) || input.value !== input.defaultValue;
    if (!rows().map(inputOf).some(isOpen)) location.reload();
  }

  function showLine(row, line) {
    row.querySelector("[data-price]").textContent = priceText(line.price);
    row.querySelector("[data-total]").textContent = number(line.total);
    const input = inputOf(row);
    if (isRefused(input)) return; // It stays, with what was said about it.
    row.querySelector(".wrong").textContent = "";
    input.defaultValue = line.quantity; // what the store has
    if (input !== document.activeElement && !unsaved.has(input)) input.value = line.quantity;
  }

  function openRow(row) {
    const id = row.dataset.product;
    const name = row.querySelector(".name").textContent;
    const wrong = row.querySelector(".wrong");
    const input = inputOf(row);
    let refused = null;
    if (isRefused(input)) {
      refused = input.value;
      input.defaultValue = ""; // What the store has instead is not known here.
      input.value = refused;
    }

    function changed() {
      if (!input.reportValidity()) return;
      unsaved.add(input);
      inTurn(saveNews);
    }

    async function saveNews() {
      unsaved.delete(input);
      if (input.value === input.defaultValue) accept();
      else if (input.value !== refused) await save();
    }

    async function save() {
      if (!row.isConnected) return; // It has been taken out meanwhile.
      const quantity = input.value;
      try {
        const basket = await put(id, input, quantity);
        refused = null;
        show(basket);
        tell.textContent = interpolate(gettext("Saved. The total is now %s."), [number(basket.total)]);
      } catch (error) {
        refused = quantity;
        input.setAttribute("aria-invalid", "true");
        wrong.textContent = said(error);
      }
    }

    // It is what the store has.
    function accept() {
      refused = null;
      input.removeAttribute("aria-invalid");
      wrong.textContent = "";
    }

    async function takeOut() {
      try {
        return await send("DELETE", `${BASKET}${id}/`);
      } catch (error) {
        if (error.status !== NOT_FOUND) throw error;
        return get(BASKET); // Another tab was quicker.
      }
    }

    async function remove() {
      if (!row.isConnected) return; // The second click of two.
      const all = rows();
      const next = all[all.indexOf(row) + 1] || all[all.indexOf(row) - 1];
      try {
        show((await takeOut()).data);
        tell.textContent = interpolate(gettext("%s was taken out."), [name]);
        (next?.querySelector(".remove button") || nothing.querySelector("a")).focus();
      } catch (error) {
        wrong.textContent = said(error);
      }
    }

    input.addEventListener("change", changed);
    row.querySelector(".change").addEventListener("submit", (event) => {
      event.preventDefault();
      if (isRefused(input)) inTurn(save); // once more
      else changed();
    });
    if (refused === null && input.value !== input.defaultValue) { // Changed before anybody listened.
      if (input === document.activeElement) input.addEventListener("blur", changed, { once: true });
      else changed();
    }
    onSubmit(row.querySelector(".remove"), remove);
  }

  rows().forEach(openRow);
  onSubmit(byId("empty-it"), async () => {
    try {
      show((await send("DELETE", BASKET)).data);
      tell.textContent = gettext("The basket is empty now.");
      nothing.querySelector("a").focus();
    } catch (error) {
      tell.textContent = said(error);
    }
  });
}

const product = byId("product");
const basket = byId("basket");
if (product) openProduct(product);
if (basket) openBasket(basket);
