// Keeps the page at the present: each event from the server means that it is worth another look.
"use strict";

const place = document.getElementById("present");
const lost = document.getElementById("lost");
let looking = false;
let again = false;

async function look() {
  if (looking) {
    again = true;
    return;
  }
  looking = true;
  try {
    const answer = await fetch("/present");
    if (answer.status === 401) {
      location.assign("/login");
      return;
    }
    if (!answer.ok) throw new Error(String(answer.status));
    place.innerHTML = await answer.text();
    lost.hidden = true;
  } catch {
    lost.hidden = false;
  }
  // At most one look a second, however fast the changes come.
  setTimeout(() => {
    looking = false;
    if (again) {
      again = false;
      look();
    }
  }, 1000);
}

function follow() {
  const events = new EventSource("/changes");
  events.onmessage = look;
  events.onerror = () => {
    look();
    if (events.readyState === EventSource.CLOSED) setTimeout(follow, 5000);
  };
}

follow();
