/**
 * The declarations of every door, and the devices of examples/devices, under TypeScript's strictest
 * settings.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Checks } from './checks.ts';
import { run } from './checks.ts';
import { root } from './nodes.ts';
import type { Project } from './projects.ts';

const strict = {
  target: 'es2023',
  strict: true,
  exactOptionalPropertyTypes: true,
  noUncheckedIndexedAccess: true,
  noPropertyAccessFromIndexSignature: true,
  noImplicitOverride: true,
  isolatedDeclarations: false,
  skipLibCheck: false,
  noEmit: true,
};

const settings: Readonly<Record<string, object>> = {
  nodenext: { module: 'nodenext' },
  bundler: { module: 'esnext', moduleResolution: 'bundler' },
};

const types: Readonly<Record<string, object>> = {
  'with @types/node': { types: ['node'] },
  'without @types/node': { types: [] },
  'without @types/node and lib.dom': { types: [], lib: ['es2023'] },
};

export function checkTypes(project: Project, checks: Checks): void {
  for (const [module, moduleOptions] of Object.entries(settings)) {
    for (const [name, typeOptions] of Object.entries(types)) {
      const file = `tsconfig.${module}.json`;
      project.write(file, JSON.stringify({ compilerOptions: { ...strict, ...moduleOptions, ...typeOptions }, files: ['main.ts'] }));
      checks.runs(`${project.name}: tsc, ${module}, ${name}`, run('node_modules/.bin/tsc', ['-p', file], project.folder));
    }
  }
  const devices = readdirSync(join(root, 'examples/devices')).filter((file) => file.endsWith('.ts') && !file.endsWith('.test.ts'));
  for (const file of devices) project.write(`devices/${file}`, readFileSync(join(root, 'examples/devices', file), 'utf8'));
  const own = JSON.parse(readFileSync(join(root, 'examples/devices/tsconfig.json'), 'utf8')) as { compilerOptions: object };
  project.write('devices/tsconfig.json', JSON.stringify({ compilerOptions: { ...own.compilerOptions, skipLibCheck: false } }));
  checks.runs(`${project.name}: tsc, the devices of examples/devices`, run('node_modules/.bin/tsc', ['-p', 'devices'], project.folder));
}
