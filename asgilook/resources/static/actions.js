// The buttons of the viewer: copy the link, copy HTML, delete.

import { deleteImage, explain, UNREACHABLE } from './api.js';
import { collection } from './collection.js';
import { $, announce } from './dom.js';
import { absolute, snippet } from './picture.js';
import { askForToken } from './token.js';
import { currentImage } from './viewer.js';

const CONFIRM_MS = 5000; // time for the second click that confirms a deletion

// navigator.clipboard exists only in secure contexts: HTTPS and localhost.
function copyWithSelection(text) {
  const area = document.createElement('textarea');
  area.className = 'hidden';
  area.readOnly = true;
  area.value = text;
  $('viewer').append(area);
  area.select();
  const copied = document.execCommand('copy');
  area.remove();
  return copied;
}

async function copy(button, text, name) {
  let copied = true;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    copied = copyWithSelection(text);
    button.focus();
  }
  if (copied) {
    announce(`${name} copied.`);
  } else {
    announce('This browser doesn’t allow copying.', 'error');
  }
}

$('copy-link').addEventListener('click', ({ currentTarget }) =>
  copy(currentTarget, absolute(currentImage().image), 'Link'),
);
$('copy-html').addEventListener('click', ({ currentTarget }) =>
  copy(currentTarget, snippet(currentImage()), 'HTML'),
);

let confirming = null; // the timer of a deletion to confirm

function resetDelete() {
  clearTimeout(confirming);
  confirming = null;
  $('delete').textContent = 'Delete';
}

async function remove(image) {
  const { status, text } = await deleteImage(image);
  if (status === 204 || status === 404) {
    collection.remove(image.id);
    announce('The picture has been deleted.');
    return;
  }
  const reason = status ? explain(status, text) : UNREACHABLE;
  announce(reason, 'error');
  if (status === 401) {
    askForToken(`${reason} Enter another token.`);
  }
}

$('delete').addEventListener('click', () => {
  if (confirming === null) {
    $('delete').textContent = 'Delete for good?';
    confirming = setTimeout(resetDelete, CONFIRM_MS);
  } else {
    resetDelete();
    remove(currentImage());
  }
});
$('viewer').addEventListener('show', resetDelete);
$('viewer').addEventListener('close', resetDelete);
