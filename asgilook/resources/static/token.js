// The API token: kept in session storage, entered in a dialog.

import { $, announce } from './dom.js';

const KEY = 'asgilook-token';
const VALID = /^[\x20-\x7e]+$/; // as in the settings of the service
const HELP = $('token-why').textContent;

// Dispatches `change` after a new token has been entered.
export const tokens = new EventTarget();

let fallback = ''; // used if the browser blocks session storage

export function getToken() {
  try {
    return sessionStorage.getItem(KEY) ?? '';
  } catch {
    return fallback;
  }
}

function setToken(value) {
  fallback = value;
  try {
    sessionStorage.setItem(KEY, value);
  } catch {
    // The token is kept until the page is closed.
  }
  update();
}

export function bearer() {
  const token = getToken();
  return token ? { Authorization: `Bearer ${token}` } : {};
}

function update() {
  const hasToken = getToken() !== '';
  $('token-label').textContent = hasToken ? 'Token set' : 'Token';
  $('token-open').classList.toggle('set', hasToken);
  $('token-forget').hidden = !hasToken;
  $('delete').hidden = !hasToken;
}

export function askForToken(reason = HELP) {
  $('token-why').textContent = reason;
  $('token').value = '';
  if (!$('token-dialog').open) {
    $('token-dialog').showModal();
  }
}

$('token-open').addEventListener('click', () => askForToken());
$('token-cancel').addEventListener('click', () => $('token-dialog').close());
$('token-forget').addEventListener('click', () => {
  setToken('');
  $('token-dialog').close();
  announce('The token has been removed.');
});
$('token-form').addEventListener('submit', (event) => {
  event.preventDefault();
  const value = $('token').value.trim();
  if (value === '') {
    announce('Enter the token first.', 'error');
    return;
  }
  if (!VALID.test(value)) {
    announce('A token has only ASCII characters. Check its dashes and quotes.', 'error');
    return;
  }
  setToken(value);
  $('token-dialog').close();
  announce('The token will be used from now on.');
  tokens.dispatchEvent(new Event('change'));
});

update();
