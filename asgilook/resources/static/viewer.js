// The viewer: one image in a dialog that fills the window.

import { collection } from './collection.js';
import { $ } from './dom.js';
import { reveal } from './grid.js';
import { dimensions, makePicture, uploaded } from './picture.js';

const MARGIN = 132; // pixels above and below the picture, as in gallery.css

let current = null; // id

export const currentImage = () => collection.get(current);

// A click on a card opens the viewer; with a modifier key it is a link like any other.
$('grid').addEventListener('click', (event) => {
  const card = event.target.closest('.card');
  if (card && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
    event.preventDefault();
    show(card.dataset.id);
    $('viewer').showModal();
  }
});

function show(id) {
  if (id === undefined) {
    $('viewer').close();
    return;
  }
  current = id;
  const image = collection.get(id);
  const link = reveal(id); // the page behind follows, and reads more as needed
  $('stage').replaceChildren(makeStage(image, link));
  $('viewer-title').textContent = `${dimensions(image)} pixels`;
  $('viewer-when').textContent = `Uploaded ${uploaded(image)}`;
  $('original').href = image.image;
  updateButtons();
  $('viewer').dispatchEvent(new Event('show'));
}

function makeStage(image, link) {
  const [width, height] = image.size;
  const fit = Math.min(innerWidth, width, ((innerHeight - MARGIN) * width) / height);
  const full = makePicture(image, `${Math.ceil(fit)}px`, { decoding: 'async' });
  full.style.setProperty('--width', width);
  full.style.setProperty('--ratio', width / height);
  const preview = link?.querySelector('img.there')?.currentSrc;
  if (preview) {
    full.style.backgroundImage = `url("${preview}")`;
  }
  return full;
}

function updateButtons() {
  const hasNewer = collection.neighbor(current, -1) !== undefined;
  const hasOlder = collection.neighbor(current, 1) !== undefined || collection.hasMore;
  const focused = document.activeElement;
  $('previous').disabled = !hasNewer;
  $('next').disabled = !hasOlder;
  // A disabled button would lose the focus to the page behind, which is inert.
  if (focused.disabled) {
    (hasOlder ? $('next') : hasNewer ? $('previous') : $('close')).focus();
  }
}

async function step(distance) {
  const from = current;
  if (distance > 0 && collection.neighbor(from, distance) === undefined) {
    await collection.readMore();
  }
  const id = collection.neighbor(from, distance);
  if (id !== undefined && current === from) {
    show(id);
  }
}

collection.addEventListener('change', ({ detail: { index = 0 } }) => {
  if (current === null) {
    return;
  }
  if (collection.get(current)) {
    updateButtons();
  } else {
    show(collection.ids[Math.min(index, collection.ids.length - 1)]);
  }
});

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
  (reveal(current) ?? $('grid')).focus({ preventScroll: true });
  current = null;
  $('stage').replaceChildren();
});
