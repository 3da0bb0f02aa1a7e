// The images that the page knows about: the newest ones up to the last page read.

import { FIRST_PAGE, PAGE_SIZE, readPage } from './api.js';
import { sleep } from './dom.js';

const MAX_REMOVED = 1000; // ids of removed images to remember
const MAX_PAUSE = 30; // seconds between two tries to read the list

// Dispatches `change` after images have been added or removed, and `failed` (detail:
// the error) if a page can't be read; reading is then repeated.
export class Collection extends EventTarget {
  lastNeeded = null; // id of the last image that a refresh keeps
  #images = new Map(); // by id
  #order = []; // ids, newest first, without gaps
  #starts = new Set(); // ids of the images that begin a section of the grid
  #next = null; // URL of the next page, or null after the last one
  #arrived = new Set(); // ids added while a page is being read
  #removed = new Set(); // ids removed lately, which a page being read may still list
  #isReading = false;
  #tail = Promise.resolve(); // of the queue of pages to read
  #wake = () => {}; // ends the pause between two tries
  #refresh = null;
  #readMore = null;

  get ids() {
    return this.#order;
  }

  get hasMore() {
    return this.#next !== null;
  }

  get(id) {
    return this.#images.get(id);
  }

  // Return the id that is `distance` after another one, or undefined.
  neighbor(id, distance) {
    const index = this.#order.indexOf(id);
    return index < 0 ? undefined : this.#order[index + distance];
  }

  // Return lists of ids that are laid out independently, so that a change moves the
  // cards of one section only.
  sections() {
    const sections = [];
    for (const id of this.#order) {
      if (sections.length === 0 || this.#starts.has(id)) {
        sections.push([]);
      }
      sections.at(-1).push(id);
    }
    return sections;
  }

  add(image) {
    this.#removed.delete(image.id);
    if (this.#images.has(image.id)) {
      return;
    }
    this.#images.set(image.id, image);
    this.#order.unshift(image.id);
    if (this.#isReading) {
      this.#arrived.add(image.id);
    }
    this.#splitFirstSection();
    this.#changed({ added: image.id });
  }

  // Add an image from the response to an upload, which may arrive after the event that
  // it has been deleted again.
  addUploaded(image) {
    if (!this.#removed.has(image.id)) {
      this.add(image);
    }
  }

  remove(id) {
    this.#removed.add(id);
    if (this.#removed.size > MAX_REMOVED) {
      this.#removed.delete(this.#removed.values().next().value);
    }
    if (!this.#images.delete(id)) {
      return;
    }
    const index = this.#order.indexOf(id);
    this.#order.splice(index, 1);
    if (this.#starts.delete(id) && index < this.#order.length) {
      this.#starts.add(this.#order[index]);
    }
    if (this.#next?.searchParams.get('after') === id) {
      this.#next = this.#urlAfterLast();
    }
    this.#changed({ removed: id, index });
  }

  // Read the newest page and merge it; images far below the visible ones are
  // forgotten, and read again when they are needed.
  refresh() {
    this.#wake(); // the service may be reachable again
    this.#refresh ??= this.#enqueue(async () => {
      this.#refresh = null;
      this.#mergeNewest(await this.#read(() => FIRST_PAGE));
    });
    return this.#refresh;
  }

  // Read the next page.
  readMore() {
    this.#readMore ??= this.#enqueue(async () => {
      if (this.hasMore) {
        this.#append(await this.#read(() => this.#next));
      }
      this.#readMore = null;
    });
    return this.#readMore;
  }

  // Pages are read one at a time.
  #enqueue(task) {
    this.#tail = this.#tail.then(async () => {
      this.#isReading = true;
      await task();
      this.#isReading = false;
    });
    return this.#tail;
  }

  async #read(getUrl) {
    for (let pause = 1; ; pause = Math.min(MAX_PAUSE, pause * 2)) {
      const url = getUrl();
      this.#arrived.clear();
      try {
        return await readPage(url);
      } catch (error) {
        const after = url.searchParams.get('after');
        if (error.status === 400 && this.#images.has(after)) {
          this.remove(after); // it no longer exists, so nothing can follow it
          continue;
        }
        this.dispatchEvent(new CustomEvent('failed', { detail: error }));
        const woken = new Promise((resolve) => (this.#wake = resolve));
        await Promise.race([sleep(pause * 1000), woken]);
      }
    }
  }

  #mergeNewest({ images, next }) {
    const listed = images.filter(({ id }) => !this.#removed.has(id));
    const newest = new Map(listed.map((image) => [image.id, image]));
    const arrived = [...this.#arrived].filter((id) => this.#images.has(id)).reverse();
    const older = next ? this.#olderThan(listed.at(-1)?.id) : [];
    // An image that has arrived may be listed already.
    const ids = new Set([...arrived, ...newest.keys(), ...older]);
    this.#order = [...ids];
    this.#images = new Map(
      this.#order.map((id) => [id, newest.get(id) ?? this.#images.get(id)]),
    );
    this.#starts = new Set(older.filter((id) => this.#starts.has(id)));
    this.#continue(older.length ? this.#urlAfterLast() : next);
  }

  // Return the known ids after an image, up to the last one needed. Without that
  // image there is a gap of unknown images: then none are returned.
  #olderThan(id) {
    const index = this.#order.indexOf(id);
    const end = this.#order.indexOf(this.lastNeeded) + 1;
    return index < 0 ? [] : this.#order.slice(index + 1, end);
  }

  #append({ images, next }) {
    const added = images.filter(({ id }) => !this.#images.has(id) && !this.#removed.has(id));
    for (const image of added) {
      this.#images.set(image.id, image);
      this.#order.push(image.id);
    }
    if (added.length) {
      this.#starts.add(added[0].id);
    }
    this.#continue(next);
  }

  #continue(next) {
    const after = next?.searchParams.get('after');
    this.#next = next && !this.#images.has(after) ? this.#urlAfterLast() : next;
    this.#changed({});
  }

  #urlAfterLast() {
    const url = new URL(FIRST_PAGE);
    if (this.#order.length) {
      url.searchParams.set('after', this.#order.at(-1));
    }
    return url;
  }

  #splitFirstSection() {
    const { length } = this.sections()[0];
    if (length > 2 * PAGE_SIZE) {
      this.#starts.add(this.#order[length - PAGE_SIZE]);
    }
  }

  #changed(detail) {
    this.dispatchEvent(new CustomEvent('change', { detail }));
  }
}

export const collection = new Collection();
