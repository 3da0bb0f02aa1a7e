// Where files come from: the file dialog, drag and drop, the clipboard.

import { $, announce } from './dom.js';
import { uploadFiles } from './uploads.js';

$('files').addEventListener('change', () => {
  uploadFiles($('files').files);
  $('files').value = '';
});

const hasFiles = (event) => event.dataTransfer?.types.includes('Files');

addEventListener('dragover', (event) => {
  if (hasFiles(event)) {
    event.preventDefault();
    event.dataTransfer.dropEffect = 'copy';
    $('curtain').hidden = false;
  }
});

addEventListener('dragleave', (event) => {
  if (event.relatedTarget === null) {
    $('curtain').hidden = true;
  }
});

addEventListener('drop', (event) => {
  $('curtain').hidden = true;
  if (!hasFiles(event)) {
    return;
  }
  event.preventDefault();
  const items = [...event.dataTransfer.items].filter((item) => item.kind === 'file');
  const files = items.filter((item) => !item.webkitGetAsEntry?.()?.isDirectory);
  if (files.length < items.length) {
    announce('Folders can’t be dropped: choose the pictures in them.', 'error');
  }
  uploadFiles(files.map((item) => item.getAsFile()));
});

addEventListener('paste', (event) => {
  if (event.clipboardData.files.length) {
    event.preventDefault();
    uploadFiles(event.clipboardData.files);
  }
});
