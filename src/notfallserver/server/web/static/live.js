// What htmx doesn't do: say that the line to the server is cut, spare what is being pressed, the zone of a time
// that is typed, copying.
"use strict";

const lost = document.getElementById("lost");
document.body.addEventListener("htmx:sseOpen", () => { lost.hidden = true; });
document.body.addEventListener("htmx:sseError", () => { lost.hidden = false; });
document.body.addEventListener("htmx:sendError", () => { lost.hidden = false; });
document.body.addEventListener("htmx:afterOnLoad", () => { lost.hidden = true; });

// A part that is fetched anew must not take a button away between press and release: that would be no click.
let pressed = false;
let late = null;
document.addEventListener("pointerdown", () => { pressed = true; }, true);
for (const name of ["pointerup", "pointercancel"]) {
  document.addEventListener(name, () => {
    pressed = false;
    if (late) setTimeout((part) => htmx.trigger(part, "sse:message"), 0, late);
    late = null;
  }, true);
}
document.body.addEventListener("htmx:beforeSwap", (event) => {
  if (!pressed || event.detail.requestConfig.triggeringEvent?.type !== "sse:message") return;
  event.detail.shouldSwap = false;
  late = event.detail.elt;
});

document.body.addEventListener("submit", (event) => {
  const at = event.target.elements.namedItem("at");
  const offset = event.target.elements.namedItem("offset");
  if (!at || !offset) return;
  const east = -new Date(at.value).getTimezoneOffset();
  const part = (minutes) => String(minutes).padStart(2, "0");
  const size = Math.abs(east);
  offset.value = (east < 0 ? "-" : "+") + part(Math.floor(size / 60)) + ":" + part(size % 60);
});

document.body.addEventListener("click", (event) => {
  const place = event.target.dataset.copy;
  if (place) navigator.clipboard.writeText(document.getElementById(place).textContent);
});
