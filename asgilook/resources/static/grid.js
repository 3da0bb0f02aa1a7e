// The grid of cards, which grows as its end comes near.

import { collection } from './collection.js';
import { $, make } from './dom.js';
import { dimensions, makePicture } from './picture.js';
import { openViewer } from './viewer.js';

const BATCH = 60; // cards added at once
const MARGIN = '900px'; // distance from the end at which cards are added

const cards = new Map(); // by id
let shown = 0; // number of cards in the grid

function makeCard(image) {
  const [width, height] = image.size;
  const ratio = Math.min(2.4, Math.max(0.62, width / height));
  const about = make('span', { class: 'about', 'aria-hidden': 'true' }, dimensions(image));
  const loaded = makePicture(image, `auto, ${Math.round(ratio * 230)}px`, {
    loading: 'lazy',
    decoding: 'async',
  });
  loaded.addEventListener('load', () => loaded.classList.add('there'), { once: true });
  const link = make('a', { href: image.image }, loaded, about);
  link.addEventListener('click', (event) => openViewer(event, image.id));
  const card = make('li', { class: width < 160 || height < 100 ? 'card small' : 'card' }, link);
  card.dataset.id = image.id;
  card.style.setProperty('--ratio', ratio.toFixed(4));
  return card;
}

function cardOf(id) {
  if (!cards.has(id)) {
    cards.set(id, makeCard(collection.get(id)));
  }
  return cards.get(id);
}

// Make the grid match the collection without moving cards that are in place.
function draw() {
  shown = Math.min(collection.ids.length, Math.max(shown, BATCH));
  let place = $('grid').firstElementChild;
  for (const id of collection.ids.slice(0, shown)) {
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
  drawCount();
}

function drawCount() {
  const count = collection.ids.length;
  $('count').textContent = count ? count.toLocaleString('en') : '';
  $('note').hidden = count > 0;
  $('note').textContent = 'No pictures yet. The first one could be yours.';
}

collection.addEventListener('change', ({ detail: { added, removed, index } }) => {
  if (added) {
    cardOf(added).classList.add('new');
    shown += 1;
  } else if (removed) {
    cards.delete(removed);
    shown -= index < shown ? 1 : 0;
  } else {
    for (const id of [...cards.keys()].filter((id) => !collection.get(id))) {
      cards.delete(id);
    }
  }
  draw();
  watchEnd();
});

collection.addEventListener('failed', ({ detail: error }) => {
  if (collection.ids.length === 0) {
    $('note').hidden = false;
    $('note').textContent = `The list can’t be read: ${error.message} Trying again…`;
  }
});

const end = new IntersectionObserver(
  (entries) => {
    if (entries.at(-1).isIntersecting && shown < collection.ids.length) {
      shown += BATCH;
      draw();
      watchEnd();
    }
  },
  { rootMargin: MARGIN },
);

// An observer reports the current state whenever it starts to observe.
function watchEnd() {
  end.unobserve($('end'));
  end.observe($('end'));
}

$('viewer').addEventListener('close', () => {
  const card = cards.get($('viewer').dataset.id);
  (card?.querySelector('a') ?? $('grid')).focus();
});
