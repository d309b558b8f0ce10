// The last check before text from a model or a user becomes part of the page: an explicit list of elements and
// attributes, and links that cannot reach back. Everything not listed is dropped.
import DOMPurify from 'dompurify';

const TAGS = [
  'p br hr h1 h2 h3 h4 h5 h6 strong em s del code pre blockquote ul ol li a',
  'table thead tbody tr th td div span sup sub kbd',
].join(' ');

/** Attributes that hold words and numbers, never an address. */
const PLAIN_ATTRIBUTES = 'title class dir start data-tex data-display data-language tabindex'.split(' ');

const SAFE_ADDRESS = /^(?:https?:|mailto:|#)/i;

const purifier = DOMPurify(window);

purifier.addHook('afterSanitizeAttributes', (element) => {
  if (element.tagName !== 'A') return;
  const href = element.getAttribute('href');
  if (href === null || !SAFE_ADDRESS.test(href)) {
    element.removeAttribute('href');
    return;
  }
  element.setAttribute('rel', 'noopener noreferrer');
  element.setAttribute('target', '_blank');
});

export function sanitise(html: string): DocumentFragment {
  return purifier.sanitize(html, {
    ALLOWED_TAGS: TAGS.split(' '),
    ALLOWED_ATTR: ['href', ...PLAIN_ATTRIBUTES],
    ADD_URI_SAFE_ATTR: PLAIN_ATTRIBUTES,
    ALLOWED_URI_REGEXP: SAFE_ADDRESS,
    ALLOW_DATA_ATTR: false,
    ALLOW_ARIA_ATTR: false,
    RETURN_DOM_FRAGMENT: true,
  });
}
