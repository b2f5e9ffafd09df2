/** DPDK's testpmd on a machine, by its prompt. */
import { execFileSync, spawnSync } from 'node:child_process';
import { closeSync, openSync, readFileSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { execOn } from '../../src/api/exec.ts';
import type { Machine } from '../../src/engine/machine/machine.ts';
import { folder } from './programs.ts';

/** Whether Debian's package is here. */
export const installed = spawnSync('dpdk-testpmd', ['--help'], { stdio: 'ignore' }).error === undefined;
if (!installed) console.warn('SKIPPED: there is no dpdk-testpmd (apt-get install dpdk), so that DPDK drives no 82576');

/** A port's counters, as `show port stats all` prints them. */
export interface PortCounters {
  readonly received: number;
  readonly receivedBytes: number;
  readonly missed: number;
  readonly sent: number;
  readonly sentBytes: number;
  readonly errors: number;
}

const LOOK_MS = 20;
/** Each program has files of its own. */
let programs = 0;

const later = () => new Promise((settle) => setTimeout(settle, LOOK_MS));

export class Testpmd implements AsyncDisposable {
  /** Resolves to its exit status. */
  readonly ended: Promise<number>;
  readonly #output: string;
  readonly #prompt: number;
  #isOver = false;

  /**
   * Its ports in the order of `functions`, which are BDFs.
   *
   * @param options of DPDK's environment, such as --vfio-vf-token=UUID
   */
  constructor(machine: Machine, functions: readonly string[], options: readonly string[] = []) {
    const name = `testpmd-${++programs}`;
    this.#output = join(folder, name);
    const fifo = join(folder, `${name}-prompt`);
    execFileSync('mkfifo', [fifo]);
    writeFileSync(this.#output, '');
    this.#prompt = openSync(fifo, 'r+');
    // No huge pages, so that each computer has the memory.
    const environment = ['-l', '0-1', '--no-huge', '-m', '128', '--no-telemetry', `--file-prefix=${name}-${process.pid}`, ...options];
    const ofPorts = ['-i', '--total-num-mbufs=8192', '--rxd=512', '--txd=512', '--no-lsc-interrupt'];
    const words = [...environment, ...functions.flatMap((bdf) => ['-a', bdf]), '--', ...ofPorts];
    const script = 'in=$1; out=$2; shift 2; exec stdbuf -oL dpdk-testpmd "$@" <"$in" >"$out" 2>&1';
    this.ended = execOn(machine, ['sh', '-c', script, 'sh', fifo, this.#output, ...words]).then((status) => {
      this.#isOver = true;
      return status;
    });
  }

  /** All that it has printed. */
  get output(): string {
    return readFileSync(this.#output, 'latin1');
  }

  type(...lines: readonly string[]): void {
    writeSync(this.#prompt, `${lines.join('\n')}\n`);
  }

  /**
   * Type commands, and wait until it has carried them out.
   *
   * @returns their output
   * @throws Error when it ends before, with all its output
   */
  async ask(...lines: readonly string[]): Promise<string> {
    const from = this.output.length;
    // An answer that no other command has.
    this.type(...lines, 'show port 99 rxq_ring_size');
    const end = /rxq_ring_size\r?\nBad arguments/;
    for (;;) {
      const said = this.output.slice(from);
      const at = said.search(end);
      if (at >= 0) return said.slice(0, at);
      if (this.#isOver) throw new Error(`testpmd ended:\n${this.output}`);
      await later();
    }
  }

  async counters(): Promise<readonly PortCounters[]> {
    const text = await this.ask('show port stats all');
    const numbers = (name: string) => [...text.matchAll(new RegExp(`${name}: +(\\d+)`, 'g'))].map(([, digits]) => Number(digits));
    const [received, receivedBytes, missed] = [numbers('RX-packets'), numbers('RX-bytes'), numbers('RX-missed')];
    const [sent, sentBytes, errors] = [numbers('TX-packets'), numbers('TX-bytes'), numbers('[RT]X-errors')];
    return received.map((_, i) => ({
      received: received[i]!,
      receivedBytes: receivedBytes[i]!,
      missed: missed[i]!,
      sent: sent[i]!,
      sentBytes: sentBytes[i]!,
      errors: errors[2 * i]! + errors[2 * i + 1]!,
    }));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#isOver) this.type('quit');
    await this.ended;
    closeSync(this.#prompt);
  }
}
