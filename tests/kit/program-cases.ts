/**
 * Cases that run in a program of `vfio exec`: each is a test of the file that calls this. For the
 * client of Linux's VFIO, which blocks its own thread while the kernel answers.
 */
import { spawnSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import type { Machine } from '../../src/engine/machine/machine.ts';
import { BundleFolder } from '../conformance/standalone/bundle.ts';
import { caseResults } from '../conformance/standalone/results.ts';
import { runWith } from '../exec/programs.ts';

/** The reason why no program of `vfio exec` sees /sys and maps BARs here; null where they do. */
const lacks =
  process.arch !== 'x64'
    ? 'accesses of mapped registers are emulated on x86-64 only, so no program maps the BARs of a machine'
    : spawnSync('unshare', ['--user', '--mount', 'true']).status !== 0
      ? 'this computer gives its users no user namespaces, so no program sees /sys of a machine'
      : null;
/** Programs of `vfio exec` are whole users of VFIO here. */
export const programsUseVfio = lacks === null;
if (lacks !== null) console.warn(`SKIPPED: ${lacks}`);

/** Programs that were bundled for a test file. */
export class ProgramCases implements Disposable {
  readonly #folder = new BundleFolder();

  /**
   * Runs the cases of the program `entry` on a machine, and declares a test for each.
   *
   * @param machine ends with the program
   * @param least cases that there are at least
   * @returns the program's output; null where it cannot run
   */
  async declare(
    name: string,
    entry: string,
    subject: { readonly machine: () => Machine; readonly environment?: Readonly<Record<string, string>>; readonly least: number },
  ): Promise<string | null> {
    if (!programsUseVfio) return null;
    const program = await this.#folder.add(entry, `${name.replace(/\W+/g, '-')}.mjs`);
    const output = await run(program, subject.machine(), subject.environment ?? {});
    const results = caseResults(output);
    describe(name, () => {
      it('runs every case', () => expect(results.length).toBeGreaterThanOrEqual(subject.least));
      for (const { title, outcome, why = '' } of results) {
        it(title, ({ skip }) => {
          if (outcome === 'skipped') skip(why);
          expect(outcome, why).toBe('passed');
        });
      }
    });
    return output;
  }

  /** The output of the program `entry` on this computer as it is. */
  async output(entry: string): Promise<string> {
    const { stdout } = spawnSync(process.execPath, [await this.#folder.add(entry)], { encoding: 'utf8', maxBuffer: 2 ** 28 });
    return stdout;
  }

  [Symbol.dispose](): void {
    this.#folder[Symbol.dispose]();
  }
}

async function run(program: string, machine: Machine, environment: Readonly<Record<string, string>>): Promise<string> {
  using _machine = machine;
  const { lines } = await runWith({ environment: { ...process.env, ...environment } }, machine, process.execPath, program);
  return lines.join('\n');
}
