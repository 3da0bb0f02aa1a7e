// The images that the page knows about, newest first.

import { readPage } from './api.js';
import { sleep } from './dom.js';

// Dispatches `change` after images have been added or removed, and `failed` (detail:
// the error) if the list can't be read; reading is then repeated.
class Collection extends EventTarget {
  #images = new Map(); // by id
  #order = []; // ids, newest first
  #added = []; // ids added by events while the list is being read
  #removed = new Set(); // ids removed by events while the list is being read
  #reading = false;
  #readAgain = false;

  get ids() {
    return this.#order;
  }

  get isReading() {
    return this.#reading;
  }

  get(id) {
    return this.#images.get(id);
  }

  // Return the id next to another one, or undefined.
  neighbor(id, distance) {
    const index = this.#order.indexOf(id);
    return index < 0 ? undefined : this.#order[index + distance];
  }

  add(image) {
    if (this.#images.has(image.id) || this.#removed.has(image.id)) {
      return;
    }
    this.#images.set(image.id, image);
    this.#order.unshift(image.id);
    this.#added.push(image.id);
    this.#changed({ added: image.id });
  }

  remove(id) {
    this.#removed.add(id);
    if (!this.#images.has(id)) {
      return;
    }
    const index = this.#order.indexOf(id);
    this.#order.splice(index, 1);
    this.#images.delete(id);
    this.#changed({ removed: id, index });
  }

  // Read the list; if it is being read already, read it once more afterwards.
  async refresh() {
    this.#readAgain = this.#reading;
    if (this.#reading) {
      return;
    }
    this.#reading = true;
    this.#replace(await this.#readWithRetries());
    this.#reading = false;
    if (this.#readAgain) {
      this.refresh();
    }
  }

  async #readWithRetries() {
    for (let seconds = 1; ; seconds = Math.min(30, seconds * 2)) {
      this.#added = [];
      this.#removed.clear();
      try {
        return await this.#readAll();
      } catch (error) {
        this.dispatchEvent(new CustomEvent('failed', { detail: error }));
        await sleep(seconds * 1000);
      }
    }
  }

  async #readAll() {
    const found = [];
    for (let url = '/images'; url; ) {
      const page = await readPage(url);
      found.push(...page.images);
      url = page.next;
    }
    return found;
  }

  #replace(found) {
    const images = new Map(found.map((image) => [image.id, image]));
    for (const id of this.#added.filter((id) => this.#images.has(id))) {
      images.set(id, this.#images.get(id));
    }
    for (const id of this.#removed) {
      images.delete(id);
    }
    this.#images = images;
    this.#order = [...images.keys()].reverse();
    this.#changed({});
  }

  #changed(detail) {
    this.dispatchEvent(new CustomEvent('change', { detail }));
  }
}

export const collection = new Collection();
