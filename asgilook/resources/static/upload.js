// One file being uploaded, and its row in the list of uploads.

import { explain, postImage, UNREACHABLE } from './api.js';
import { $, announce, make, sleep } from './dom.js';

const MAX_TRIES = 8; // while the service is busy or unreachable
const MAX_PAUSE = 60; // seconds between two tries
const RETRIED = new Set([0, 502, 503, 504]); // statuses, where 0 means no answer

// Return whether the same file may be accepted at another try.
const mayHelp = (status) => status === 0 || status === 408 || status >= 500;

// crypto.randomUUID() exists only in secure contexts: HTTPS and localhost.
function randomUuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const digits = [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

// Dispatches `done` (detail: the image), `failed`, `locked` (a token is needed), `retry`
// and `dismiss`.
export class Upload extends EventTarget {
  #file;
  #key = randomUuid(); // the same for every try, so that the file is stored once
  #name;
  #abort = new AbortController();

  constructor(file) {
    super();
    this.#file = file;
    this.#name = file.name || 'Pasted picture';
    this.bar = make('progress', { max: 1, value: 0, 'aria-label': this.#name });
    this.text = make('span', { class: 'text' }, 'Waiting');
    this.actions = make('span', { class: 'actions' });
    this.preview = make('span', { class: 'preview', 'aria-hidden': 'true' });
    const name = make('span', { class: 'name' }, this.#name);
    this.item = make('li', {}, this.preview, name, this.text, this.bar, this.actions);
    $('uploads-list').append(this.item);
  }

  // Send the file until the service accepts or rejects it, or the user cancels.
  async run() {
    this.#abort = new AbortController();
    this.actions.replaceChildren();
    this.#addButton('Cancel', () => this.#abort.abort());
    try {
      this.#showPreview();
      this.#finish(await this.#sendRepeatedly());
    } catch (error) {
      this.actions.replaceChildren();
      this.#reject(`The upload failed: ${error.message}`, true);
    }
  }

  wait() {
    this.actions.replaceChildren();
    this.#setState('waiting', 'Waiting');
  }

  #retry() {
    this.wait();
    this.#dispatch('retry');
  }

  // Return the answer to the last try.
  async #sendRepeatedly() {
    for (let tries = 1; ; tries += 1) {
      this.#setState('sending', '0 %');
      this.bar.value = 0;
      const answer = await this.#send();
      if (!RETRIED.has(answer.status) || tries >= MAX_TRIES) {
        return answer;
      }
      await this.#pause(answer, 2 ** tries);
      if (this.#abort.signal.aborted) {
        return answer;
      }
    }
  }

  #send() {
    return postImage(this.#file, {
      key: this.#key,
      onProgress: (event) => this.#showProgress(event),
      signal: this.#abort.signal,
    });
  }

  async #pause({ status, retryAfter }, fallback) {
    const cancelled = new Promise((resolve) =>
      this.#abort.signal.addEventListener('abort', resolve),
    );
    const seconds = Math.min(MAX_PAUSE, Math.max(1, parseInt(retryAfter, 10) || fallback));
    const reason = status ? 'The service is busy' : 'The service can’t be reached';
    for (let left = seconds; left > 0 && !this.#abort.signal.aborted; left -= 1) {
      this.#setState('waiting', `${reason}. Trying again in ${left} s`);
      await Promise.race([sleep(1000), cancelled]);
    }
  }

  #finish({ status, text }) {
    this.actions.replaceChildren();
    if (status === 201) {
      this.#succeed(JSON.parse(text));
    } else if (this.#abort.signal.aborted) {
      this.#fail('Cancelled', true);
    } else if (status === 401) {
      this.#setState('waiting', 'Waiting for the token');
      this.#dispatch('locked');
    } else {
      this.#reject(status ? explain(status, text) : UNREACHABLE, mayHelp(status));
    }
  }

  #reject(reason, canRetry) {
    announce(`${this.#name}: ${reason}`, 'silent'); // for screen readers
    this.#fail(reason, canRetry);
  }

  #succeed(image) {
    this.bar.value = 1;
    this.#setState('done', 'Uploaded');
    this.#dispatch('done', image);
    setTimeout(() => this.dismiss(), 3000);
  }

  #fail(reason, canRetry) {
    this.#setState('failed', reason);
    if (canRetry) {
      this.#addButton('Try again', () => this.#retry());
    }
    this.#dispatch('failed');
  }

  dismiss() {
    this.item.remove();
    this.#dispatch('dismiss');
  }

  #setState(state, text) {
    this.item.dataset.state = state;
    this.text.textContent = text;
  }

  #showProgress({ loaded, total }) {
    this.bar.value = total ? loaded / total : 1;
    const percent = Math.floor(this.bar.value * 100);
    this.#setState('sending', loaded < total ? `${percent} %` : 'Processing…');
  }

  #showPreview() {
    const url = URL.createObjectURL(this.#file);
    const image = make('img', { alt: '', src: url });
    image.addEventListener('load', () => URL.revokeObjectURL(url));
    image.addEventListener('error', () => {
      URL.revokeObjectURL(url);
      image.remove();
    });
    this.preview.replaceChildren(image);
  }

  #addButton(label, onClick) {
    const button = make('button', { type: 'button', class: 'quiet' }, label);
    button.setAttribute('aria-label', `${label}: ${this.#name}`);
    button.addEventListener('click', onClick);
    this.actions.append(button);
  }

  #dispatch(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
