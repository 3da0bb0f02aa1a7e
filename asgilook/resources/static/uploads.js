// The queue of uploads and its summary.

import { collection } from './collection.js';
import { $, announce } from './dom.js';
import { askForToken, getToken, tokens } from './token.js';
import { Upload } from './upload.js';

const PARALLEL = 3; // uploads at a time

const waiting = [];
const failed = new Set();
const locked = new Set(); // rejected for want of a token; the others wait meanwhile
const counts = { running: 0, done: 0, announced: 0, all: 0 };

const isBusy = () => counts.running + waiting.length + locked.size > 0;

export function uploadFiles(files) {
  if (!isBusy()) {
    counts.done = counts.announced = 0;
    counts.all = failed.size;
  }
  for (const file of files) {
    counts.all += 1;
    enqueue(new Upload(file));
  }
  if (locked.size) {
    ask();
  }
  startNext();
}

function ask() {
  askForToken(
    getToken()
      ? 'This token is wrong. Enter another one.'
      : 'Uploading requires the service’s token. It is kept until you close this tab.',
  );
}

function enqueue(upload) {
  upload.addEventListener('done', ({ detail: image }) => {
    counts.done += 1;
    collection.addUploaded(image);
  });
  upload.addEventListener('failed', () => failed.add(upload));
  upload.addEventListener('locked', () => {
    locked.add(upload);
    if (locked.size === 1) {
      ask(); // once, however many files there are
    }
  });
  upload.addEventListener('retry', () => {
    failed.delete(upload);
    waiting.push(upload);
    startNext();
  });
  upload.addEventListener('dismiss', showSummary);
  waiting.push(upload);
}

function startNext() {
  while (waiting.length && counts.running < PARALLEL && !locked.size) {
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
  const { done, all } = counts;
  if (isBusy() && !locked.size) {
    return `Uploading ${Math.min(all, done + failed.size + 1)} of ${all}`;
  }
  const open = all - done - failed.size;
  const parts = [
    done && `${done} uploaded`,
    failed.size && `${failed.size} not uploaded`,
    open && `${open} waiting for the token`,
  ];
  return parts.filter(Boolean).join(', ');
}

function showSummary() {
  $('uploads').hidden = $('uploads-list').childElementCount === 0;
  $('uploads-token').hidden = locked.size === 0;
  $('uploads-clear').hidden = failed.size + locked.size === 0;
  $('uploads-title').textContent = summarize();
  const count = counts.done - counts.announced;
  if (!isBusy() && count > 0) {
    announce(`${count.toLocaleString('en')} ${count === 1 ? 'picture' : 'pictures'} uploaded.`);
    counts.announced = counts.done;
  }
}

$('uploads-token').addEventListener('click', ask);

$('uploads-clear').addEventListener('click', () => {
  const cleared = [...failed, ...locked];
  if (locked.size) {
    cleared.push(...waiting.splice(0));
  }
  counts.all -= cleared.length;
  failed.clear();
  locked.clear();
  for (const upload of cleared) {
    upload.dismiss();
  }
  $('files').focus();
});

tokens.addEventListener('change', () => {
  for (const upload of locked) {
    upload.wait();
  }
  waiting.unshift(...locked);
  locked.clear();
  startNext();
});
