// One card of the grid: a picture that links to its image.

import { exists } from './api.js';
import { collection } from './collection.js';
import { make } from './dom.js';
import { dimensions, makePicture } from './picture.js';

export function makeCard(image) {
  const [width, height] = image.size;
  const about = make('span', { class: 'about', 'aria-hidden': 'true' }, dimensions(image));
  const picture = makePicture(image, '', { decoding: 'async' });
  picture.addEventListener('load', () => picture.classList.add('there'), { once: true });
  picture.addEventListener('error', () => removeIfDeleted(image));
  const link = make('a', { href: image.image }, picture, about);
  const card = make('li', { class: width < 160 || height < 100 ? 'card small' : 'card' }, link);
  card.dataset.id = image.id;
  return card;
}

// The image may have been deleted while no events were received.
async function removeIfDeleted(image) {
  if (!(await exists(image))) {
    collection.remove(image.id);
  }
}

// Remove a card; otherwise its picture would still be loaded.
export function removeCard(card) {
  const picture = card.querySelector('img');
  picture.removeAttribute('srcset');
  picture.removeAttribute('src');
  card.remove();
}

export function placeCard(card, image, box) {
  for (const property of ['left', 'top', 'width', 'height']) {
    card.style[property] = `${box[property]}px`;
  }
  const [width, height] = image.size;
  // A picture covers its card, so the picture may be wider than the card.
  const shown = Math.ceil(Math.max(box.width, (box.height * width) / height));
  const picture = card.querySelector('img');
  if (picture.sizes !== `${shown}px`) {
    picture.sizes = `${shown}px`; // loads the picture again
  }
}
