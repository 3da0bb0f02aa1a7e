// The grid of cards. Only cards near the visible part are in the document.

import { layOut } from './layout.js';
import { makeCard, placeCard, removeCard } from './card.js';
import { collection } from './collection.js';
import { $ } from './dom.js';

const MARGIN = 900; // pixels above and below the window that have cards
const READ_MARGIN = 1500; // pixels from the end at which the next page is read
const KEEP_MARGIN = 2000; // pixels below the window that are kept in a refresh

const grid = $('grid');
const cards = new Map(); // by id: { card, box } of those in the document
const arrived = new Set(); // ids of cards to be shown with an animation
let ids = [];
let boxes = []; // of all ids, sorted from top to bottom

// Return the index of the first card whose lower edge is below `y`.
function firstBelow(y) {
  let low = 0;
  for (let high = boxes.length; low < high; ) {
    const middle = (low + high) >> 1;
    if (boxes[middle].top + boxes[middle].height > y) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

const visibleTop = () => -grid.getBoundingClientRect().top;

// Return the first visible card that still exists, with its position, unless the top of
// the grid is visible.
function findAnchor() {
  if (visibleTop() <= 0) {
    return null;
  }
  let index = firstBelow(visibleTop());
  while (index < ids.length && !collection.get(ids[index])) {
    index += 1;
  }
  return index < ids.length ? { id: ids[index], top: boxes[index].top } : null;
}

// Lay out all cards anew, without moving the first visible one.
function layOutAll() {
  const anchor = findAnchor();
  const sections = collection
    .sections()
    .map((section) => section.map((id) => collection.get(id).size));
  const layout = layOut(sections, grid.clientWidth, !collection.hasMore);
  ids = [...collection.ids];
  boxes = layout.boxes;
  grid.style.height = `${layout.height}px`;
  if (anchor) {
    scrollBy(0, boxes[ids.indexOf(anchor.id)].top - anchor.top);
  }
  draw();
}

// Return the indexes of the cards that should be in the document. A focused card stays,
// so that the focus is not lost while scrolling, and so do its neighbors, so that the Tab
// key reaches them.
function indexesToShow() {
  const top = visibleTop();
  const indexes = new Set();
  const end = firstBelow(top + innerHeight + MARGIN);
  for (let index = firstBelow(top - MARGIN); index < end; index += 1) {
    indexes.add(index);
  }
  const focused = ids.indexOf(document.activeElement.closest('.card')?.dataset.id);
  if (focused >= 0) {
    for (let index = focused - 1; index <= focused + 1; index += 1) {
      if (index >= 0 && index < ids.length) {
        indexes.add(index);
      }
    }
  }
  return [...indexes].sort((a, b) => a - b);
}

function draw() {
  const indexes = indexesToShow();
  const keep = new Set(indexes.map((index) => ids[index]));
  for (const [id, { card }] of cards) {
    if (!keep.has(id)) {
      removeCard(card);
      cards.delete(id);
    }
  }
  let place = grid.firstElementChild;
  for (const index of indexes) {
    const card = drawCard(index);
    if (card === place) {
      place = place.nextElementSibling;
    } else {
      grid.insertBefore(card, place);
    }
  }
  const last = firstBelow(visibleTop() + innerHeight + KEEP_MARGIN);
  collection.lastNeeded = ids[Math.min(last, ids.length - 1)];
}

function drawCard(index) {
  const id = ids[index];
  const image = collection.get(id);
  if (!cards.has(id)) {
    cards.set(id, { card: makeCard(image), box: null });
    cards.get(id).card.classList.toggle('new', arrived.delete(id));
  }
  const { card, box } = cards.get(id);
  if (box !== boxes[index]) {
    placeCard(card, image, boxes[index]);
    cards.get(id).box = boxes[index];
  }
  // The list for screen readers is the whole one, not the part in the document.
  card.ariaSetSize = collection.hasMore ? -1 : ids.length;
  card.ariaPosInSet = index + 1;
  return card;
}

function drawNotes() {
  const { length } = collection.ids;
  const count = length.toLocaleString('en');
  $('count').textContent = collection.hasMore ? `${count}+` : length ? count : '';
  $('more').hidden = !collection.hasMore;
  $('note').hidden = length > 0;
  $('note').textContent = 'No pictures yet. Upload the first one.';
}

// Scroll to a card, if necessary, and return its link.
export function reveal(id) {
  const box = boxes[ids.indexOf(id)];
  if (!box) {
    return null;
  }
  const top = visibleTop();
  if (box.top < top || box.top + box.height > top + innerHeight) {
    scrollBy(0, box.top - top - (innerHeight - box.height) / 2);
    draw();
  }
  return cards.get(id)?.card.querySelector('a');
}

collection.addEventListener('change', ({ detail: { added } }) => {
  if (added) {
    arrived.add(added);
  }
  drawNotes();
  layOutAll();
  watchEnd();
});

collection.addEventListener('failed', ({ detail: error }) => {
  $('note').hidden = false;
  $('note').textContent = `The list can’t be read: ${error.message} Trying again…`;
});

const end = new IntersectionObserver(
  (entries) => {
    if (entries.at(-1).isIntersecting && collection.hasMore) {
      collection.readMore();
    }
  },
  { rootMargin: `${READ_MARGIN}px` },
);

// An observer reports the current state whenever it starts to observe.
function watchEnd() {
  end.unobserve($('end'));
  end.observe($('end'));
}

let frame = null;

function drawSoon() {
  frame ??= requestAnimationFrame(() => {
    frame = null;
    draw();
  });
}

addEventListener('scroll', drawSoon, { passive: true });
// A busy browser handles many keys before it draws a frame.
grid.addEventListener('focusin', draw);
addEventListener('resize', drawSoon);
// This element is as wide as the grid, and its height doesn't change.
new ResizeObserver(layOutAll).observe($('end'));
