/** Tests run the command as a user does: from dist/, which is built of the current sources. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';

export default function build(): void {
  const { status } = spawnSync(process.execPath, [join(import.meta.dirname, '../tools/build.js'), '--no-types'], { stdio: 'inherit' });
  if (status !== 0) throw new Error('dist/ could not be built');
}
