// The queue of uploads and its summary.

import { collection } from './collection.js';
import { $, announce } from './dom.js';
import { tokens } from './token.js';
import { Upload } from './upload.js';

const PARALLEL = 3; // uploads at a time

const waiting = [];
const failed = new Set();
const counts = { running: 0, done: 0, all: 0 };

export function uploadFiles(files) {
  for (const file of files) {
    counts.all += 1;
    enqueue(new Upload(file));
  }
  startNext();
}

function enqueue(upload) {
  upload.addEventListener('done', ({ detail: image }) => {
    counts.done += 1;
    collection.addUploaded(image);
  });
  upload.addEventListener('failed', () => failed.add(upload));
  upload.addEventListener('retry', () => {
    failed.delete(upload);
    waiting.push(upload);
    startNext();
  });
  upload.addEventListener('dismiss', showSummary);
  waiting.push(upload);
}

function startNext() {
  while (waiting.length && counts.running < PARALLEL) {
    counts.running += 1;
    waiting
      .shift()
      .run()
      .finally(() => {
        counts.running -= 1;
        startNext();
      });
  }
  showSummary();
}

function summarize() {
  const { running, done, all } = counts;
  if (running + waiting.length) {
    return `Uploading ${Math.min(all, done + failed.size + 1)} of ${all}`;
  }
  const parts = [done && `${done} uploaded`, failed.size && `${failed.size} not uploaded`];
  return parts.filter(Boolean).join(', ');
}

function showSummary() {
  const { running, done } = counts;
  $('uploads').hidden = $('uploads-list').childElementCount === 0;
  $('uploads-clear').hidden = failed.size === 0;
  $('uploads-title').textContent = summarize();
  if (running + waiting.length === 0 && done > 0) {
    announce(`${done.toLocaleString('en')} ${done === 1 ? 'picture' : 'pictures'} uploaded.`);
    counts.done = 0;
    counts.all = failed.size;
  }
}

$('uploads-clear').addEventListener('click', () => {
  const cleared = [...failed];
  counts.all -= cleared.length;
  failed.clear();
  for (const upload of cleared) {
    upload.dismiss();
  }
  $('files').focus();
});

tokens.addEventListener('change', () => {
  for (const upload of [...failed].filter((each) => each.needsToken)) {
    upload.retry();
  }
});
