// The gallery of asgilook. Whatever comes from outside goes into the page as text or
// as the value of an attribute, never as HTML.

const BATCH = 60; // cards that are added when the end of the grid comes near
const PARALLEL = 3; // uploads at a time
const TRIES = 8; // of an upload that the service is too busy for
const HIDDEN_MS = 20_000; // a tab that nobody sees gives its event stream back
const TOKEN = 'asgilook-token';

const $ = (id) => document.getElementById(id);

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const plural = (n, one, many) => `${n.toLocaleString('en')} ${n === 1 ? one : many}`;

// -- Messages ---------------------------------------------------------------------

// Under a modal dialog nothing is announced or seen, so each has a place of its own.
function say(text, kind = 'info') {
  const place =
    document.querySelector('dialog[open] .toasts') ??
    document.querySelector('body > .toasts');
  const toast = make('p', { class: `toast ${kind}` }, text);
  place.append(toast);
  setTimeout(() => toast.remove(), kind === 'error' ? 9000 : 5000);
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

// What went wrong, in the words of its problem+json (RFC 9457).
function explain(status, text) {
  const problem = parse(text);
  return problem?.detail ?? problem?.title ?? `The service answered ${status}.`;
}

// -- Token ------------------------------------------------------------------------

const token = {
  get() {
    try {
      return sessionStorage.getItem(TOKEN) ?? '';
    } catch {
      return this.kept ?? ''; // storage is blocked
    }
  },
  set(value) {
    this.kept = value;
    try {
      sessionStorage.setItem(TOKEN, value);
    } catch {
      // then for as long as this page is open
    }
    showToken();
  },
};

const TOKEN_HELP = $('token-why').textContent;

function showToken() {
  const has = token.get() !== '';
  $('token-label').textContent = has ? 'Token set' : 'Token';
  $('token-open').classList.toggle('set', has);
  $('token-forget').hidden = !has;
  $('delete').hidden = !has;
}

function askToken(why = TOKEN_HELP) {
  $('token-why').textContent = why;
  $('token').value = '';
  $('token-dialog').showModal();
}

$('token-open').addEventListener('click', () => askToken());
$('token-cancel').addEventListener('click', () => $('token-dialog').close());
$('token-forget').addEventListener('click', () => {
  token.set('');
  $('token-dialog').close();
  say('The token is forgotten.');
});
$('token-form').addEventListener('submit', (event) => {
  event.preventDefault();
  const value = $('token').value.trim();
  if (value === '') {
    say('Enter the token first.', 'error');
    return;
  }
  token.set(value);
  $('token-dialog').close();
  say('The token is used from now on.');
  retryRefused();
});

// -- Pictures ---------------------------------------------------------------------

const images = new Map(); // by id, as the API lists them
const cards = new Map(); // by id
const gone = new Set(); // ids that a list which is being read may still have
let order = []; // ids, newest first
let shown = 0; // how many of them have their card in the grid
let arrived = []; // ids that came by events while the list was read

const dates = new Intl.DateTimeFormat(undefined, {
  dateStyle: 'medium',
  timeStyle: 'short',
});

const dimensions = (image) => image.size.join(' × ');
const uploaded = (image) => dates.format(new Date(image.modified));

function candidates(image) {
  const thumbnails = image.thumbnails.map((uri) => [uri, /(\d+)x\d+\.jpeg$/.exec(uri)[1]]);
  return [...thumbnails.reverse(), [image.image, image.size[0]]];
}

function picture(image, sizes, attributes) {
  const alt = `Picture of ${dimensions(image)} pixels, uploaded ${uploaded(image)}`;
  const [width, height] = image.size;
  const all = candidates(image);
  const sources = {};
  if (all.length > 1) {
    sources.sizes = sizes;
    sources.srcset = all.map(([uri, w]) => `${uri} ${w}w`).join(', ');
  }
  return make('img', { ...attributes, alt, width, height, ...sources, src: all[0][0] });
}

function makeCard(image) {
  const [width, height] = image.size;
  const ratio = Math.min(2.4, Math.max(0.62, width / height));
  const about = make('span', { class: 'about', 'aria-hidden': 'true' }, dimensions(image));
  const loaded = picture(image, `auto, ${Math.round(ratio * 230)}px`, {
    loading: 'lazy',
    decoding: 'async',
  });
  loaded.addEventListener('load', () => loaded.classList.add('there'), { once: true });
  const link = make('a', { href: image.image }, loaded, about);
  link.addEventListener('click', (event) => open(event, image.id));
  const card = make('li', { class: width < 160 || height < 100 ? 'card small' : 'card' }, link);
  card.style.setProperty('--ratio', ratio.toFixed(4));
  return card;
}

function cardOf(id) {
  if (!cards.has(id)) {
    cards.set(id, makeCard(images.get(id)));
  }
  return cards.get(id);
}

// Make the grid what `order` and `shown` say, and move no card that is in its place.
function draw() {
  shown = Math.min(order.length, Math.max(shown, BATCH));
  let place = $('grid').firstElementChild;
  for (const id of order.slice(0, shown)) {
    const card = cardOf(id);
    if (card === place) {
      place = place.nextElementSibling;
    } else {
      $('grid').insertBefore(card, place);
    }
  }
  while (place !== null) {
    const next = place.nextElementSibling;
    place.remove();
    place = next;
  }
  tell();
}

function tell() {
  $('count').textContent = order.length ? order.length.toLocaleString('en') : '';
  $('note').hidden = order.length > 0;
  $('note').textContent = 'No pictures yet. The first one could be yours.';
}

function add(image) {
  if (images.has(image.id) || gone.has(image.id)) {
    return;
  }
  images.set(image.id, image);
  order.unshift(image.id);
  arrived.push(image.id);
  cardOf(image.id).classList.add('new');
  shown += 1;
  draw();
  showNeighbours();
}

function remove(id) {
  gone.add(id);
  if (!images.has(id)) {
    return;
  }
  const at = order.indexOf(id);
  order.splice(at, 1);
  shown -= at < shown ? 1 : 0;
  images.delete(id);
  cards.delete(id);
  draw();
  if (id === current) {
    show(order[Math.min(at, order.length - 1)]);
  } else {
    showNeighbours();
  }
}

// -- The list ---------------------------------------------------------------------

// RFC 8288: the next page, where there is one.
function nextPage(response) {
  const match = /<([^>]*)>\s*;\s*rel="next"/.exec(response.headers.get('Link') ?? '');
  return match && new URL(match[1], location.href);
}

// The API lists the oldest first, and people want to see the newest: so all pages are
// read before the first card. That is a few hundred bytes for each image.
async function readList() {
  const found = [];
  for (let url = '/images'; url; ) {
    const response = await fetch(url, { headers: { Accept: 'application/json' } });
    if (!response.ok) {
      throw new Error(explain(response.status, await response.text()));
    }
    found.push(...(await response.json()));
    url = nextPage(response);
    if (url && order.length === 0) {
      $('note').textContent = `Reading the list… ${found.length.toLocaleString('en')}`;
    }
  }
  return found;
}

function take(found) {
  const listed = new Map(found.map((image) => [image.id, image]));
  const late = arrived.filter((id) => images.has(id) && !listed.has(id));
  const kept = new Map(late.map((id) => [id, images.get(id)]));
  const old = [...listed.keys()].filter((id) => !gone.has(id));
  order = [...old, ...late].reverse();
  images.clear();
  for (const id of order) {
    images.set(id, listed.get(id) ?? kept.get(id));
  }
  for (const id of [...cards.keys()].filter((id) => !images.has(id))) {
    cards.delete(id);
  }
  draw();
  watchEnd();
  if (current !== null && !images.has(current)) {
    show(order[0]);
  }
}

let reading = null;
let again = false;

async function readUntilKnown() {
  for (let seconds = 1; ; seconds = Math.min(30, seconds * 2)) {
    arrived = [];
    gone.clear();
    try {
      return await readList();
    } catch (problem) {
      if (order.length === 0) {
        $('note').hidden = false;
        $('note').textContent = `The list can’t be read: ${problem.message} Trying again…`;
      }
      await sleep(seconds * 1000);
    }
  }
}

// Read the list, and once more if that was asked for in the meantime.
async function refresh() {
  again = reading !== null;
  if (again) {
    return;
  }
  reading = readUntilKnown();
  take(await reading);
  reading = null;
  if (again) {
    refresh();
  }
}

const end = new IntersectionObserver(
  (entries) => {
    if (entries.at(-1).isIntersecting && shown < order.length) {
      shown += BATCH;
      draw();
      watchEnd();
    }
  },
  { rootMargin: '900px' },
);

// Observing anew asks anew whether the end is near.
function watchEnd() {
  end.unobserve($('end'));
  end.observe($('end'));
}

// -- Events -----------------------------------------------------------------------

let source = null;
let unread = true; // something may have been missed, so that the list must be read
let away = null;

function live(state, text) {
  $('live').dataset.state = state;
  $('live-text').textContent = text;
}

function listen() {
  source = new EventSource('/events');
  source.addEventListener('open', () => {
    live('on', 'Live');
    if (unread) {
      unread = false;
      refresh();
    }
  });
  source.addEventListener('image', (event) => add(JSON.parse(event.data)));
  source.addEventListener('deleted', (event) => remove(JSON.parse(event.data).id));
  source.addEventListener('reload', () => setTimeout(refresh, Math.random() * 2000));
  source.addEventListener('error', lost);
}

function lost() {
  live('waiting', 'Reconnecting…');
  if (order.length === 0 && reading === null) {
    refresh();
  }
  if (source.readyState === EventSource.CLOSED) {
    unread = true;
    setTimeout(() => document.hidden || listen(), 3000 + Math.random() * 2000);
  }
}

document.addEventListener('visibilitychange', () => {
  clearTimeout(away);
  if (document.hidden) {
    away = setTimeout(() => source.close(), HIDDEN_MS);
  } else if (source.readyState === EventSource.CLOSED) {
    unread = true;
    listen();
  }
});

// -- Uploads ----------------------------------------------------------------------

const waiting = [];
const refused = new Set(); // for want of the token
const counts = { running: 0, done: 0, failed: 0, all: 0 };

class Upload {
  constructor(file) {
    this.file = file;
    this.name = file.name || 'Pasted picture';
    this.tries = 0;
    this.bar = make('progress', { max: 1, value: 0, 'aria-label': this.name });
    this.text = make('span', { class: 'text' }, 'Waiting');
    this.actions = make('span', { class: 'actions' });
    this.preview = make('span', { class: 'preview', 'aria-hidden': 'true' });
    const name = make('span', { class: 'name' }, this.name);
    this.item = make('li', {}, this.preview, name, this.text, this.bar, this.actions);
    $('uploads-list').append(this.item);
  }

  state(state, text) {
    this.item.dataset.state = state;
    this.text.textContent = text;
  }

  offer(label, act) {
    const button = make('button', { type: 'button', class: 'quiet' }, label);
    button.setAttribute('aria-label', `${label}: ${this.name}`);
    button.addEventListener('click', act);
    this.actions.append(button);
  }

  look() {
    const url = URL.createObjectURL(this.file);
    const image = make('img', { alt: '', src: url });
    const forget = () => URL.revokeObjectURL(url);
    image.addEventListener('load', forget);
    image.addEventListener('error', () => {
      forget();
      image.remove();
    });
    this.preview.replaceChildren(image);
  }

  // Send it; resolve with { status, text, after }, status 0 for no answer at all.
  send() {
    return new Promise((resolve) => {
      const request = new XMLHttpRequest();
      this.request = request;
      request.open('POST', '/images');
      request.setRequestHeader('Content-Type', 'application/octet-stream');
      if (token.get()) {
        request.setRequestHeader('Authorization', `Bearer ${token.get()}`);
      }
      request.upload.addEventListener('progress', (event) => this.progress(event));
      request.addEventListener('loadend', () =>
        resolve({
          status: request.status,
          text: request.responseText,
          after: request.getResponseHeader('Retry-After'),
        }),
      );
      request.send(this.file);
    });
  }

  progress({ loaded, total }) {
    this.bar.value = total ? loaded / total : 1;
    const percent = Math.floor(this.bar.value * 100);
    this.state('sending', loaded < total ? `${percent} %` : 'Working on it…');
  }

  async run() {
    this.cancelled = false;
    this.actions.replaceChildren();
    this.offer('Cancel', () => this.cancel());
    this.look();
    for (;;) {
      this.state('sending', '0 %');
      this.bar.value = 0;
      this.tries += 1;
      const answer = await this.send();
      if (this.cancelled || answer.status !== 503 || this.tries >= TRIES) {
        return this.finish(answer);
      }
      await this.pause(answer.after);
      if (this.cancelled) {
        return this.finish(answer);
      }
    }
  }

  async pause(after) {
    for (let left = Math.min(60, Math.max(1, parseInt(after, 10) || 2)); left > 0; left -= 1) {
      this.state('waiting', `The service is busy: again in ${left} s`);
      await Promise.race([sleep(1000), new Promise((resolve) => (this.wake = resolve))]);
      if (this.cancelled) {
        return;
      }
    }
  }

  cancel() {
    this.cancelled = true;
    this.wake?.();
    this.request.abort();
  }

  finish({ status, text }) {
    this.actions.replaceChildren();
    if (status === 201) {
      this.done(JSON.parse(text));
    } else if (this.cancelled) {
      this.fail('Cancelled');
    } else {
      this.fail(status ? explain(status, text) : 'The service can’t be reached.');
      if (status === 401) {
        refused.add(this);
        this.offer('Enter token', () => askToken());
      }
    }
  }

  done(image) {
    this.bar.value = 1;
    this.state('done', 'Uploaded');
    counts.done += 1;
    add(image);
    setTimeout(() => this.dismiss(), 3000);
  }

  fail(why) {
    this.state('failed', why);
    counts.failed += 1;
    if (!this.cancelled) {
      say(`${this.name}: ${why}`, 'silent'); // it can be seen in the list
    }
    this.offer('Try again', () => this.retry());
  }

  retry() {
    refused.delete(this);
    counts.failed -= 1;
    this.tries = 0;
    this.actions.replaceChildren();
    this.state('waiting', 'Waiting');
    waiting.push(this);
    pump();
  }

  dismiss() {
    refused.delete(this);
    this.item.remove();
    showUploads();
  }
}

function retryRefused() {
  for (const upload of [...refused]) {
    upload.retry();
  }
}

function pump() {
  while (waiting.length && counts.running < PARALLEL) {
    counts.running += 1;
    waiting
      .shift()
      .run()
      .finally(() => {
        counts.running -= 1;
        pump();
      });
  }
  showUploads();
}

function showUploads() {
  const { running, done, failed, all } = counts;
  const busy = running + waiting.length;
  $('uploads').hidden = $('uploads-list').childElementCount === 0;
  $('uploads-clear').hidden = failed === 0;
  $('uploads-title').textContent = busy
    ? `Uploading ${Math.min(all, done + failed + 1)} of ${all}`
    : [done && `${done} uploaded`, failed && `${failed} not uploaded`].filter(Boolean).join(', ');
  if (busy === 0 && done > 0) {
    say(`${plural(done, 'picture', 'pictures')} uploaded.`);
    counts.done = 0;
    counts.all = failed;
  }
}

function upload(files) {
  for (const file of files) {
    counts.all += 1;
    waiting.push(new Upload(file));
  }
  pump();
}

$('uploads-clear').addEventListener('click', () => {
  for (const item of $('uploads-list').querySelectorAll('[data-state=failed]')) {
    item.remove();
    counts.failed -= 1;
    counts.all -= 1;
  }
  refused.clear();
  showUploads();
  $('files').focus();
});

$('files').addEventListener('change', () => {
  upload($('files').files);
  $('files').value = '';
});

const hasFiles = (event) => event.dataTransfer?.types.includes('Files');

addEventListener('dragover', (event) => {
  if (hasFiles(event)) {
    event.preventDefault();
    event.dataTransfer.dropEffect = 'copy';
    $('curtain').hidden = false;
  }
});

addEventListener('dragleave', (event) => {
  if (event.relatedTarget === null) {
    $('curtain').hidden = true;
  }
});

addEventListener('drop', (event) => {
  $('curtain').hidden = true;
  if (!hasFiles(event)) {
    return;
  }
  event.preventDefault();
  const entries = [...event.dataTransfer.items].filter((item) => item.kind === 'file');
  const folders = entries.filter((item) => item.webkitGetAsEntry?.()?.isDirectory);
  const files = entries.filter((item) => !folders.includes(item)).map((item) => item.getAsFile());
  if (folders.length) {
    say('Folders can’t be dropped: choose the pictures in them.', 'error');
  }
  upload(files);
});

addEventListener('paste', (event) => {
  if (event.clipboardData.files.length) {
    event.preventDefault();
    upload(event.clipboardData.files);
  }
});

// -- The full view ----------------------------------------------------------------

const MARGIN = 132; // pixels above and below the picture
let current = null;
let armed = null;

function open(event, id) {
  if (event.ctrlKey || event.metaKey || event.shiftKey) {
    return; // a new tab or window, as for any link
  }
  event.preventDefault();
  show(id);
  $('viewer').showModal();
}

function show(id) {
  disarm();
  if (id === undefined) {
    $('viewer').close();
    return;
  }
  current = id;
  const image = images.get(id);
  const [width, height] = image.size;
  const fit = Math.min(innerWidth, width, ((innerHeight - MARGIN) * width) / height);
  const full = picture(image, `${Math.ceil(fit)}px`, { decoding: 'async' });
  full.style.setProperty('--width', width);
  full.style.setProperty('--ratio', width / height);
  const preview = cards.get(id)?.querySelector('img.there')?.currentSrc;
  if (preview) {
    full.style.backgroundImage = `url("${preview}")`;
  }
  $('stage').replaceChildren(full);
  $('viewer-title').textContent = `${dimensions(image)} pixels`;
  $('viewer-when').textContent = `Uploaded ${uploaded(image)}`;
  $('original').href = image.image;
  showNeighbours();
}

function showNeighbours() {
  const at = order.indexOf(current);
  $('previous').disabled = at <= 0;
  $('next').disabled = at < 0 || at >= order.length - 1;
}

function step(by) {
  const id = order[order.indexOf(current) + by];
  if (id !== undefined) {
    show(id);
  }
}

$('previous').addEventListener('click', () => step(-1));
$('next').addEventListener('click', () => step(1));
$('close').addEventListener('click', () => $('viewer').close());
$('viewer').addEventListener('click', (event) => {
  if (event.target === $('viewer') || event.target === $('stage')) {
    $('viewer').close();
  }
});
$('viewer').addEventListener('keydown', (event) => {
  if (event.key === 'ArrowLeft' || event.key === 'ArrowRight') {
    event.preventDefault();
    step(event.key === 'ArrowLeft' ? -1 : 1);
  }
});
$('viewer').addEventListener('close', () => {
  const card = cards.get(current);
  current = null;
  disarm();
  $('stage').replaceChildren();
  (card?.querySelector('a') ?? $('grid')).focus();
});

// -- What can be done with a picture ----------------------------------------------

const absolute = (uri) => new URL(uri, location.href).href;

function snippet(image) {
  const [width, height] = image.size;
  const all = candidates(image);
  const src = absolute((all.find(([, w]) => w >= 640) ?? all.at(-1))[0]);
  const lines = [`<img src="${src}"`];
  if (all.length > 1) {
    const srcset = all.map(([uri, w]) => `${absolute(uri)} ${w}w`).join(',\n             ');
    lines.push(`srcset="${srcset}"`, 'sizes="100vw"');
  }
  lines.push(`width="${width}" height="${height}" loading="lazy" alt="">`);
  return lines.join('\n     ');
}

// Without TLS there is no navigator.clipboard.
function copyByHand(text) {
  const area = make('textarea', { class: 'hidden', readonly: '' });
  area.value = text;
  $('viewer').append(area);
  area.select();
  const copied = document.execCommand('copy');
  area.remove();
  return copied;
}

async function copy(button, text, what) {
  let copied = true;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    copied = copyByHand(text);
    button.focus();
  }
  say(copied ? `${what} copied.` : 'This browser doesn’t allow to copy.', copied ? 'info' : 'error');
}

$('copy-link').addEventListener('click', ({ currentTarget }) =>
  copy(currentTarget, absolute(images.get(current).image), 'Link'),
);
$('copy-html').addEventListener('click', ({ currentTarget }) =>
  copy(currentTarget, snippet(images.get(current)), 'HTML'),
);

function disarm() {
  clearTimeout(armed);
  armed = null;
  $('delete').textContent = 'Delete';
}

async function erase(image) {
  let response;
  try {
    const headers = { Authorization: `Bearer ${token.get()}` };
    response = await fetch(image.image, { method: 'DELETE', headers });
  } catch {
    say('The service can’t be reached.', 'error');
    return;
  }
  if (response.ok || response.status === 404) {
    remove(image.id);
    say('The picture is deleted.');
  } else {
    const why = explain(response.status, await response.text());
    say(why, 'error');
    if (response.status === 401) {
      askToken(`${why} The one that was entered is not right.`);
    }
  }
}

$('delete').addEventListener('click', () => {
  if (armed === null) {
    $('delete').textContent = 'Delete for good?';
    armed = setTimeout(disarm, 5000);
  } else {
    disarm();
    erase(images.get(current));
  }
});

// -- Begin ------------------------------------------------------------------------

showToken();
listen();
