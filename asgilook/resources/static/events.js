// Live changes: Server-Sent Events of uploads and deletions.

import { collection } from './collection.js';
import { $ } from './dom.js';

const HIDDEN_MS = 20_000; // a tab hidden for longer closes its event stream
const FALLBACK_MS = 1500; // wait for the first connection
const RECONNECT_MS = 3000; // after a connection that the browser does not retry
const SPREAD_MS = 2000; // random delay, so that clients don't all come at once

let source = null;
let hasRead = false; // the list, at least once
let isStale = true; // events may have been missed, so the list must be read
let timer = null; // closes the stream of a hidden tab, or opens a new one

function showState(state, text) {
  $('live').dataset.state = state;
  $('live-text').textContent = text;
}

function listen() {
  clearTimeout(timer);
  source = new EventSource('/events');
  source.addEventListener('open', () => {
    showState('on', 'Live');
    if (isStale) {
      isStale = false;
      hasRead = true;
      collection.refresh();
    }
  });
  source.addEventListener('image', ({ data }) => collection.add(JSON.parse(data)));
  source.addEventListener('deleted', ({ data }) => collection.remove(JSON.parse(data).id));
  source.addEventListener('reload', () =>
    setTimeout(() => collection.refresh(), Math.random() * SPREAD_MS),
  );
  source.addEventListener('error', reconnect);
}

function reconnect() {
  showState('waiting', 'Reconnecting…');
  readAtLeastOnce();
  if (source.readyState === EventSource.CLOSED) {
    isStale = true;
    const delay = RECONNECT_MS + Math.random() * SPREAD_MS;
    clearTimeout(timer);
    timer = setTimeout(() => document.hidden || listen(), delay);
  }
}

document.addEventListener('visibilitychange', () => {
  if (document.hidden) {
    clearTimeout(timer);
    timer = setTimeout(() => source.close(), HIDDEN_MS);
  } else if (source.readyState === EventSource.CLOSED) {
    isStale = true;
    listen();
  } else {
    clearTimeout(timer);
  }
});

// Show images even if the event stream can't be opened, or opens slowly.
function readAtLeastOnce() {
  if (!hasRead) {
    hasRead = true;
    collection.refresh();
  }
}

listen();
setTimeout(readAtLeastOnce, FALLBACK_MS);
