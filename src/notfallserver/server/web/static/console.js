// The screen of a stand-in: noVNC on a WebSocket that comes back by itself.
import RFB from "/static/vendor/novnc/core/rfb.js";

const AGAIN_MS = 2000;
const ENDS = { 4001: "off", 4002: "full" };
const NO_LONGER = 4003;

const place = document.getElementById("console");
const screen = document.getElementById("screen");
const keys = document.getElementById("keys");
const fit = document.getElementById("fit");
let rfb = null;
let leaving = false;

function tell(line) {
  document.querySelector("#told .done")?.remove();
  keys.disabled = line !== "connected";
  for (const one of document.querySelectorAll("[data-line]")) one.hidden = one.dataset.line !== line;
}

function look() {
  document.body.dispatchEvent(new Event("look"));
}

function connect() {
  const socket = new WebSocket("wss://" + location.host + place.dataset.stream, "binary");
  let end = 0;
  socket.addEventListener("close", (event) => { end = event.code; });
  rfb = new RFB(screen, socket);
  rfb.background = "#000";
  rfb.scaleViewport = fit.getAttribute("aria-pressed") === "true";
  rfb.addEventListener("connect", () => {
    tell("connected");
    look();
    screen.querySelector("canvas").tabIndex = 0;
    if (document.activeElement === document.body) rfb.focus();
  });
  rfb.addEventListener("disconnect", () => {
    if (leaving) return;
    look(); // the buttons may have changed, or nobody is logged in any more
    if (end === NO_LONGER) return location.reload();
    tell(ENDS[end] || "lost");
    setTimeout(again, AGAIN_MS);
  });
}

// A stand-in that is known to be off is not asked: the part with the buttons tells when it is on.
function again() {
  if (document.getElementById("part").value === "off") setTimeout(again, AGAIN_MS);
  else connect();
}

keys.addEventListener("click", () => {
  rfb.sendCtrlAltDel();
  rfb.focus();
});
fit.addEventListener("click", () => {
  rfb.scaleViewport = !rfb.scaleViewport;
  fit.setAttribute("aria-pressed", String(rfb.scaleViewport));
});
document.getElementById("whole").addEventListener("click", () => {
  screen.requestFullscreen();
  rfb.focus();
});
// The picture takes all keys: this is the way out, told below it.
screen.addEventListener("keydown", (event) => {
  if (event.key !== "Home" || !event.ctrlKey || !event.altKey) return;
  event.preventDefault();
  event.stopPropagation();
  window.dispatchEvent(new Event("blur")); // noVNC lets go of Ctrl and Alt
  keys.focus();
}, true);
window.addEventListener("pagehide", () => { leaving = true; });

connect();
