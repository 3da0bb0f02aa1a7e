// How an image of the API is shown: <img> elements, captions, HTML to copy.

import { make } from './dom.js';

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

// Return an <img> that loads the WebP of the best size, and the JPEG if that fails.
export function makePicture(image, sizes, attributes) {
  const alt = `Picture of ${dimensions(image)} pixels, uploaded ${uploaded(image)}`;
  const [width, height] = image.size;
  const all = candidates(image);
  const element = make('img', { ...attributes, alt, width, height });
  if (all.length > 1) {
    element.sizes = sizes;
    element.srcset = makeSrcset(all.map(asWebP));
    const useJpeg = () => (element.srcset = makeSrcset(all));
    element.addEventListener('error', useJpeg, { once: true });
  }
  element.src = all[0][0];
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
