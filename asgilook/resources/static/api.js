// HTTP requests to the service.

import { bearer } from './token.js';

export const PAGE_SIZE = 100;
export const FIRST_PAGE = new URL(`/images?order=newest&limit=${PAGE_SIZE}`, location.href);
export const UNREACHABLE = 'The service can’t be reached.';

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

// Return the message of a problem+json body (RFC 9457).
export function explain(status, text) {
  const problem = parse(text);
  return problem?.detail ?? problem?.title ?? `The service answered ${status}.`;
}

// Return the URL of the next page from a Link header (RFC 8288), or null.
function nextPage(response) {
  const match = /<([^>]*)>\s*;\s*rel="next"/.exec(response.headers.get('Link') ?? '');
  return match && new URL(match[1], location.href);
}

// Read one page of the list; an error of the service has a `status`.
export async function readPage(url) {
  const response = await fetch(url, { headers: { Accept: 'application/json' } });
  if (!response.ok) {
    const message = explain(response.status, await response.text());
    throw Object.assign(new Error(message), { status: response.status });
  }
  return { images: await response.json(), next: nextPage(response) };
}

// Delete an image; resolve with { status, text }, where status 0 means no answer.
export async function deleteImage(image) {
  try {
    const response = await fetch(image.image, { method: 'DELETE', headers: bearer() });
    return { status: response.status, text: await response.text() };
  } catch {
    return { status: 0, text: '' };
  }
}

// Return whether an image still exists; true if the service doesn't answer.
export async function exists(image) {
  try {
    return (await fetch(image.image, { method: 'HEAD', cache: 'no-store' })).status !== 404;
  } catch {
    return true;
  }
}

// Upload a file; resolve with { status, text, retryAfter }, where status 0 means no
// answer. A repeated upload with the same key stores nothing again. XMLHttpRequest is
// used because fetch() reports no upload progress.
export function postImage(file, { key, onProgress, signal }) {
  return new Promise((resolve) => {
    const request = new XMLHttpRequest();
    request.open('POST', '/images');
    request.setRequestHeader('Content-Type', 'application/octet-stream');
    request.setRequestHeader('Idempotency-Key', `"${key}"`);
    for (const [name, value] of Object.entries(bearer())) {
      request.setRequestHeader(name, value);
    }
    request.upload.addEventListener('progress', onProgress);
    request.addEventListener('loadend', () =>
      resolve({
        status: request.status,
        text: request.responseText,
        retryAfter: request.getResponseHeader('Retry-After'),
      }),
    );
    signal.addEventListener('abort', () => request.abort());
    request.send(file);
  });
}
