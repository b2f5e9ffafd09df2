/** Boots of guests and their verdicts; counts and prints them. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Check, mustBe } from './checks.ts';
import { Facts } from './facts.ts';
import type { GuestTools } from './guest-tools.ts';
import { ServedDevice } from './served-device.ts';
import { type BootOptions, boot } from './virtual-machine.ts';

/** Checks by their subject. */
export type Verdicts = Readonly<Record<string, readonly Check[]>>;

const kernelIsWell: Check = {
  title: 'the kernel logged no trouble, the scenario came to its end',
  run(facts) {
    if (facts.has('guest', 'kernel.trouble')) throw new Error(facts.get('guest', 'kernel.trouble'));
    if (facts.get('guest', 'exit') !== '0') throw new Error(`the scenario ended with ${facts.get('guest', 'exit')}: ${facts.words}`);
  },
};

/** A script of this folder, for a guest. */
export function scenario(...files: readonly string[]): string {
  return files.map((file) => readFileSync(join(import.meta.dirname, file), 'utf8')).join('\n');
}

export class Visits {
  readonly tools: GuestTools;
  readonly #isVerbose: boolean;
  passed = 0;
  failed = 0;

  constructor(tools: GuestTools, { verbose }: { readonly verbose: boolean }) {
    this.tools = tools;
    this.#isVerbose = verbose;
  }

  judge(verdicts: Verdicts, facts: Facts): void {
    for (const [who, checks] of Object.entries(verdicts)) {
      for (const { title, run } of checks) {
        try {
          run(facts);
          this.passed++;
          console.log(`ok    ${who}: ${title}`);
        } catch (error) {
          this.failed++;
          console.log(`FAIL  ${who}: ${title}\n      ${(error as Error).message}`);
        }
      }
    }
  }

  /**
   * One boot and its verdicts. A guest without a verdict is a failure too, and the next one gets
   * its turn.
   *
   * @param tools with another kernel. Default: those of all visits
   * @returns the facts, or null without a verdict
   */
  async visit(title: string, how: BootOptions, verdicts: Verdicts, tools = this.tools): Promise<Facts | null> {
    console.log(`\n# ${title}`);
    try {
      const { facts, complaints, milliseconds } = await boot(tools, how);
      if (this.#isVerbose) {
        for (const [subject, key, value] of facts) console.log(`  ${subject} ${key} ${value.replaceAll('\n', '\n    ')}`);
        console.log(`  QEMU said: ${complaints}\n  besides: ${facts.words}`);
      }
      this.judge({ guest: [kernelIsWell], ...verdicts }, facts);
      console.log(`      ${(milliseconds / 1000).toFixed(1)} s`);
      return facts;
    } catch (error) {
      this.failed++;
      console.log(`FAIL  ${(error as Error).message}`);
      return null;
    }
  }

  /**
   * Serve a device while `visits` are made, and check that nothing is left of them.
   *
   * @param words the arguments of `vfio serve`
   * @param network as for `ServedDevice.start`
   */
  async withServed(words: readonly string[], visits: (served: ServedDevice) => Promise<void>, network = false): Promise<void> {
    const served = await ServedDevice.start(words, network);
    try {
      const idle = served.descriptors();
      await visits(served);
      const left = (await served.settledDescriptors(idle)) - idle;
      const { end, leftSocket } = await served.stop();
      console.log(`\n# the server of these guests`);
      if (this.#isVerbose) console.log(served.said);
      const checks = [
        mustBe('has no descriptor left of the guests', left, 0),
        mustBe('exits with 0 at SIGTERM', end, 'status 0'),
        mustBe('leaves no socket file', leftSocket, false),
      ];
      this.judge({ server: checks }, new Facts());
    } finally {
      await served.stop();
    }
  }
}
