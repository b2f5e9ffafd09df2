/** The commands of README's section "Drive a real device". */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const file = join(import.meta.dirname, '../../README.md');

/** The lines that are typed, without the prompt: `sudo npx vfio bind 03:00.0`. */
export function realDeviceCommands(): string[] {
  const readme = existsSync(file) ? readFileSync(file, 'utf8') : '';
  const block = /## Drive a real device[\s\S]*?```console\n([\s\S]*?)^```$/m.exec(readme)?.[1] ?? '';
  return [...block.matchAll(/^\$ (.*)$/gm)].map(([, line]) => line!);
}

/** Such a line for a shell of root that calls this command, user and driver. */
export function typedAs(
  line: string,
  { vfio, user, driver }: { readonly vfio: string; readonly user: string; readonly driver: string },
): string {
  return line
    .replace(/^sudo /, '')
    .replace('npx vfio', vfio)
    .replace('$USER', user)
    .replace('my-driver.ts', driver);
}

/** A driver for every device, in JavaScript and TypeScript. */
export const MY_DRIVER = `import { open } from 'vfio-ts';
export async function main(address) {
  using dev = await open(address);
  console.log('mine:', dev.name);
}
`;
