// HTTP requests to the service.

import { bearer } from './token.js';

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

// Read one page of the list.
export async function readPage(url) {
  const response = await fetch(url, { headers: { Accept: 'application/json' } });
  if (!response.ok) {
    throw new Error(explain(response.status, await response.text()));
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

// Upload a file; resolve with { status, text, retryAfter }, where status 0 means no
// answer. XMLHttpRequest is used because fetch() reports no upload progress.
export function postImage(file, { onProgress, signal }) {
  return new Promise((resolve) => {
    const request = new XMLHttpRequest();
    request.open('POST', '/images');
    request.setRequestHeader('Content-Type', 'application/octet-stream');
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
