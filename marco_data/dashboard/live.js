// Renews the page while a build goes on: asks what there is, and takes the new content when it is another.
// Where a reader is, what is open and what is scrolled stays; someone who is choosing or selecting is not disturbed.
"use strict";

const body = document.body;

function busy() {
  const active = document.activeElement;
  const choosing = active && ["SELECT", "INPUT", "TEXTAREA"].includes(active.tagName);
  return choosing || String(document.getSelection()).length > 0;
}

function renew(text) {
  const fresh = new DOMParser().parseFromString(text, "text/html");
  const open = [...document.querySelectorAll("details[open]")].map((one) => one.id);
  const scrolled = [...document.querySelectorAll(".scroll")].map((one) => [one.id, one.scrollLeft, one.scrollTop]);
  const focused = document.activeElement && document.activeElement.getAttribute("href");
  const [x, y] = [window.scrollX, window.scrollY];
  for (const id of ["state", "main"]) {
    const [old, other] = [document.getElementById(id), fresh.getElementById(id)];
    if (old && other) old.replaceWith(other);
  }
  open.forEach((id) => { const one = document.getElementById(id); if (one) one.open = true; });
  scrolled.forEach(([id, left, top]) => { const one = document.getElementById(id); if (one) one.scrollTo(left, top); });
  if (focused) {
    const one = [...document.querySelectorAll("a[href]")].find((link) => link.getAttribute("href") === focused);
    if (one) one.focus({ preventScroll: true });
  }
  window.scrollTo(x, y);
  body.dataset.state = fresh.body.dataset.state;
}

async function look() {
  let seconds = 15;
  try {
    const said = await (await fetch("/state" + location.search, { cache: "no-store" })).json();
    if (said.running) seconds = 3;
    if (said.state !== body.dataset.state && !busy()) {
      renew(await (await fetch(location.href, { cache: "no-store" })).text());
    }
  } catch (error) {
    // The server has ended, or is busy: asked again later.
  }
  window.setTimeout(look, seconds * 1000);
}

window.setTimeout(look, 3000);
