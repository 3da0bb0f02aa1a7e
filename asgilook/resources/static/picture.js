// How an image of the API is shown: <img> elements, captions, HTML to copy.

import { make, sleep } from './dom.js';

const MAX_TRIES = 8; // while the service is busy or unreachable
const MAX_PAUSE = 60; // seconds between two tries

const dates = new Intl.DateTimeFormat(undefined, {
  dateStyle: 'medium',
  timeStyle: 'short',
});

export const absolute = (uri) => new URL(uri, location.href).href;
export const dimensions = (image) => image.size.join(' × ');
export const uploaded = (image) => dates.format(new Date(image.modified));

// Return [URL, width] of every size of the image, the smallest first.
function candidates(image) {
  const thumbnails = image.thumbnails.map((uri) => [uri, /(\d+)x\d+\.jpeg$/.exec(uri)[1]]);
  return [...thumbnails.reverse(), [image.image, image.size[0]]];
}

// Thumbnails exist as WebP too, which is smaller; images don't.
function asWebP([uri, width]) {
  return [uri.replace(/^(\/thumbnails\/.*)\.jpeg$/, '$1.webp'), width];
}

const makeSrcset = (all) => all.map(([uri, width]) => `${uri} ${width}w`).join(', ');

// Load the WebP of the best size, the JPEG if that fails, and both again after a pause,
// as long as the element is in the document.
async function load(element, all) {
  const versions = all.length > 1 ? [all.map(asWebP), all] : [all];
  for (let tries = 1; tries <= MAX_TRIES; tries += 1) {
    for (const version of versions) {
      if (all.length > 1) {
        element.srcset = makeSrcset(version);
      }
      element.src = all[0][0];
      await new Promise((resolve) =>
        element.addEventListener('error', resolve, { once: true }),
      );
    }
    // At random, so that the pictures of a page don't all come at once.
    await sleep(Math.min(MAX_PAUSE, 2 ** tries) * (500 + 500 * Math.random()));
    if (!element.isConnected) {
      return;
    }
  }
}

// Return an <img> that loads the image in the best size.
export function makePicture(image, sizes, attributes) {
  const alt = `Picture of ${dimensions(image)} pixels, uploaded ${uploaded(image)}`;
  const [width, height] = image.size;
  const all = candidates(image);
  const element = make('img', { ...attributes, alt, width, height });
  if (all.length > 1) {
    element.sizes = sizes;
  }
  load(element, all);
  return element;
}

// Return an <img> element for other pages, as text.
export function snippet(image) {
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
