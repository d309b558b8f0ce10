// Makes one element's children equal to another's with as few changes as it can, so that text selected or code
// scrolled in a growing answer stays as the reader left it.

function sameKind(a: Node, b: Node): boolean {
  return a.nodeType === b.nodeType && a.nodeName === b.nodeName;
}

function morphAttributes(from: Element, to: Element): void {
  for (const { name } of [...from.attributes]) if (!to.hasAttribute(name)) from.removeAttribute(name);
  for (const { name, value } of to.attributes)
    if (from.getAttribute(name) !== value) from.setAttribute(name, value);
}

/** Elements drawn by someone else after this one ran: left alone while their source is the same. */
function isDrawnAlready(from: Element, to: Element): boolean {
  const source = to.getAttribute('data-tex');
  return source !== null && source === from.getAttribute('data-tex') && from.hasAttribute('data-drawn');
}

function morphNode(from: Node, to: Node): void {
  if (from instanceof Text && to instanceof Text) {
    if (from.data === to.data) return;
    if (to.data.startsWith(from.data)) from.appendData(to.data.slice(from.data.length));
    else from.data = to.data;
  } else if (from instanceof Element && to instanceof Element && !isDrawnAlready(from, to)) {
    morphAttributes(from, to);
    morphChildren(from, to);
  }
}

export function morphChildren(from: Node, to: Node): void {
  const wanted = [...to.childNodes];
  for (const [index, node] of wanted.entries()) {
    const present = from.childNodes[index];
    if (present === undefined) from.appendChild(node);
    else if (sameKind(present, node)) morphNode(present, node);
    else from.replaceChild(node, present);
  }
  while (from.childNodes.length > wanted.length) from.lastChild?.remove();
}
