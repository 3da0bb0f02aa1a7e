// The gallery. Each module sets up its own part of the page.

import './grid.js';
import './actions.js';
import './input.js';
import './events.js';
