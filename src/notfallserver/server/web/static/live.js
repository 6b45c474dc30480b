// What htmx doesn't do: say that the line to the server is cut, the zone of a time that is typed, copying.
"use strict";

const lost = document.getElementById("lost");
document.body.addEventListener("htmx:sseOpen", () => { lost.hidden = true; });
document.body.addEventListener("htmx:sseError", () => { lost.hidden = false; });
document.body.addEventListener("htmx:sendError", () => { lost.hidden = false; });
document.body.addEventListener("htmx:afterOnLoad", () => { lost.hidden = true; });

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
