// Where the server runs, as far as the page's address tells.

/** Whether a host's name is always this very machine: what is sent there stays here. */
export function isLoopback(host: string): boolean {
  const name = host.replace(/^\[|\]$/g, '').toLowerCase();
  return (
    name === 'localhost' ||
    name.endsWith('.localhost') ||
    name === '::1' ||
    /^127(?:\.\d{1,3}){3}$/.test(name)
  );
}

export const onThisMachine = isLoopback(location.hostname);
