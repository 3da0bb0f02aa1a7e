// Live changes: Server-Sent Events of uploads and deletions.

import { collection } from './collection.js';
import { $ } from './dom.js';

const HIDDEN_MS = 20_000; // a tab hidden for longer closes its event stream
const RECONNECT_MS = 3000; // after a connection that the browser does not retry
const SPREAD_MS = 2000; // random delay, so that clients don't all come at once

let source = null;
let isStale = true; // events may have been missed, so the list must be read
let hidden = null; // timer

function showState(state, text) {
  $('live').dataset.state = state;
  $('live-text').textContent = text;
}

function listen() {
  source = new EventSource('/events');
  source.addEventListener('open', () => {
    showState('on', 'Live');
    if (isStale) {
      isStale = false;
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
  if (collection.ids.length === 0 && !collection.isReading) {
    collection.refresh();
  }
  if (source.readyState === EventSource.CLOSED) {
    isStale = true;
    const delay = RECONNECT_MS + Math.random() * SPREAD_MS;
    setTimeout(() => document.hidden || listen(), delay);
  }
}

document.addEventListener('visibilitychange', () => {
  clearTimeout(hidden);
  if (document.hidden) {
    hidden = setTimeout(() => source.close(), HIDDEN_MS);
  } else if (source.readyState === EventSource.CLOSED) {
    isStale = true;
    listen();
  }
});

listen();
