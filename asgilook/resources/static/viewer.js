// The viewer: one image in a dialog that fills the window.

import { collection } from './collection.js';
import { $ } from './dom.js';
import { dimensions, makePicture, uploaded } from './picture.js';

const MARGIN = 132; // pixels above and below the picture, as in gallery.css

let current = null; // id

export const currentImage = () => collection.get(current);

// Handle a click on a card; with a modifier key it is a link like any other.
export function openViewer(event, id) {
  if (event.ctrlKey || event.metaKey || event.shiftKey) {
    return;
  }
  event.preventDefault();
  show(id);
  $('viewer').showModal();
}

function show(id) {
  if (id === undefined) {
    $('viewer').close();
    return;
  }
  current = id;
  $('viewer').dataset.id = id;
  const image = collection.get(id);
  $('stage').replaceChildren(makeStage(image));
  $('viewer-title').textContent = `${dimensions(image)} pixels`;
  $('viewer-when').textContent = `Uploaded ${uploaded(image)}`;
  $('original').href = image.image;
  updateButtons();
  $('viewer').dispatchEvent(new Event('show'));
}

function makeStage(image) {
  const [width, height] = image.size;
  const fit = Math.min(innerWidth, width, ((innerHeight - MARGIN) * width) / height);
  const full = makePicture(image, `${Math.ceil(fit)}px`, { decoding: 'async' });
  full.style.setProperty('--width', width);
  full.style.setProperty('--ratio', width / height);
  const preview = document.querySelector(`[data-id="${image.id}"] img.there`)?.currentSrc;
  if (preview) {
    full.style.backgroundImage = `url("${preview}")`;
  }
  return full;
}

function updateButtons() {
  $('previous').disabled = collection.neighbor(current, -1) === undefined;
  $('next').disabled = collection.neighbor(current, 1) === undefined;
}

function step(distance) {
  const id = collection.neighbor(current, distance);
  if (id !== undefined) {
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
  current = null;
  $('stage').replaceChildren();
});
