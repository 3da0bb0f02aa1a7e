// DOM helpers. Text from outside becomes text nodes or attribute values, never HTML.

export const $ = (id) => document.getElementById(id);

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

// Show a short message and announce it to screen readers. Everything outside a modal
// dialog is inert, so each dialog has its own place for messages.
export function announce(text, kind = 'info') {
  const place =
    document.querySelector('dialog[open] .toasts') ??
    document.querySelector('body > .toasts');
  const toast = make('p', { class: `toast ${kind}` }, text);
  place.append(toast);
  setTimeout(() => toast.remove(), kind === 'error' ? 9000 : 5000);
}

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
