// Applies a chosen theme before the first paint. A file of its own because the page forbids inline scripts.
try {
  const place = new URL('.', location.href).pathname;
  const key = `zhenjin${place === '/' ? '.' : place}preferences`;
  const { theme } = JSON.parse(localStorage.getItem(key) ?? '{}');
  if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
} catch {
  // A browser without storage follows the system.
}
