/**
 * For tests: the I/O half of a controller by itself, with memory, namespaces, commands, and a list
 * of completions in order.
 */

import type { DeviceHost } from '../../../src/abi/device-host.ts';
import { NvmOpcode, Psdt } from '../../../src/abi/nvme.ts';
import { ManualClock } from '../../../src/base/clock.ts';
import { silentLogger } from '../../../src/base/log.ts';
import { EventStream } from '../../../src/events/stream.ts';
import { Command } from '../../../src/models/nvme/command.ts';
import type { NamespaceOptions } from '../../../src/models/nvme/namespace.ts';
import { Namespaces } from '../../../src/models/nvme/namespaces.ts';
import { NvmCommands, type NvmCommandsOptions } from '../../../src/models/nvme/nvm-commands.ts';
import { TestMemory } from './test-memory.ts';

export const MDTS = 0x2_0000;

export interface TestCommand {
  readonly opcode: number;
  readonly nsid?: number;
  readonly lba?: number | bigint;
  /** NLB, counted from one. */
  readonly blocks?: number;
  /** Bits of CDW12 beside NLB. */
  readonly cdw12?: number;
  readonly cdw10?: number;
  readonly cdw11?: number;
  /** Bytes of the test's memory. */
  readonly prp1?: number;
  readonly prp2?: number;
  readonly sgl?: SglText;
  readonly psdt?: number;
  readonly fused?: number;
}

/** An SGL descriptor: where in the test's memory, bytes, type and subtype in one byte. */
export type SglText = readonly [at: number, length: number, identifier: number];

export class TestIo implements Disposable {
  readonly memory: TestMemory;
  readonly clock = new ManualClock();
  readonly host: DeviceHost;
  readonly namespaces: Namespaces;
  readonly commands: NvmCommands;
  /** `[command's id, status]`, in the order of completion. */
  readonly completed: [id: number, status: number][] = [];
  #id = 0;

  constructor(namespaces: readonly NamespaceOptions[], options: { pages?: number; base?: bigint } & Partial<NvmCommandsOptions> = {}) {
    this.memory = new TestMemory(options.pages ?? 256, options.base);
    const unused = () => {
      throw new Error('I/O commands do not use this');
    };
    this.host = {
      dma: this.memory,
      events: new EventStream().source('disk'),
      irq: { raise: unused, lower: unused, trigger: unused, mode: 'msix', vectors: 1 },
      clock: this.clock,
      log: silentLogger,
      answerAfter: unused,
      readConfig: unused,
      barMemory: unused,
      reportError: unused,
      wake: unused,
    };
    this.namespaces = new Namespaces(namespaces);
    this.commands = new NvmCommands(this.host, this.namespaces, (command, status) => void this.completed.push([command.id, status]), {
      maxTransferBytes: MDTS,
      ...options,
    });
  }

  /** A fresh command; its id counts from 1. */
  make(test: TestCommand): Command {
    const command = new Command(0);
    const { dw } = command;
    const psdt = test.psdt ?? (test.sgl === undefined ? Psdt.PRP : Psdt.SGL);
    dw[0] = test.opcode | ((test.fused ?? 0) << 8) | (psdt << 14) | ((++this.#id & 0xffff) << 16);
    dw[1] = test.nsid ?? 1;
    if (test.sgl === undefined) {
      [dw[6], dw[7]] = this.memory.address(test.prp1 ?? 0);
      [dw[8], dw[9]] = this.memory.address(test.prp2 ?? 0);
    } else {
      [dw[6], dw[7]] = this.memory.address(test.sgl[0]);
      dw[8] = test.sgl[1];
      dw[9] = test.sgl[2] << 24;
    }
    const lba = BigInt(test.lba ?? 0);
    dw[10] = test.cdw10 ?? Number(lba & 0xffff_ffffn);
    dw[11] = test.cdw11 ?? Number(lba >> 32n);
    dw[12] = ((test.blocks ?? 1) - 1) | (test.cdw12 ?? 0);
    return command;
  }

  /** Start commands as one batch. Returns their ids. */
  start(...tests: TestCommand[]): number[] {
    const made = tests.map((test) => this.make(test));
    for (const command of made) this.commands.start(command);
    this.commands.submit();
    return made.map((command) => command.id);
  }

  /** Start a command that ends at once. Returns its status. */
  status(test: TestCommand): number {
    const [id] = this.start(test);
    const last = this.completed.at(-1);
    if (last === undefined || last[0] !== id) throw new Error(`command ${id} did not end`);
    return last[1];
  }

  read(lba: number, blocks: number, prp1: number, prp2 = 0): number {
    return this.status({ opcode: NvmOpcode.READ, lba, blocks, prp1, prp2 });
  }

  write(lba: number, blocks: number, prp1: number, prp2 = 0): number {
    return this.status({ opcode: NvmOpcode.WRITE, lba, blocks, prp1, prp2 });
  }

  /** A PRP list at byte `at` of memory: pages by their byte. */
  list(at: number, pages: readonly number[]): void {
    const view = new DataView(this.memory.bytes.buffer);
    pages.forEach((page, i) => void view.setBigUint64(at + 8 * i, this.memory.base + BigInt(page), true));
  }

  /** An SGL segment at byte `at`. */
  segment(at: number, descriptors: readonly SglText[]): void {
    const view = new DataView(this.memory.bytes.buffer);
    descriptors.forEach(([to, length, identifier], i) => {
      view.setBigUint64(at + 16 * i, this.memory.base + BigInt(to), true);
      view.setUint32(at + 16 * i + 8, length, true);
      view.setUint32(at + 16 * i + 12, (identifier << 24) >>> 0, true);
    });
  }

  /** Let promises that are ready go on. */
  async settle(): Promise<void> {
    for (let i = 0; i < 50; i++) await Promise.resolve();
  }

  /** Everything has ended: no command is pending, every operation and buffer is back. */
  get idle(): boolean {
    const { inUse, pending } = this.commands;
    return pending === 0 && inUse.bounceBytes === 0 && inUse.operations === 0;
  }

  [Symbol.dispose](): void {
    this.commands[Symbol.dispose]();
    this.namespaces[Symbol.dispose]();
  }
}

/** `count` bytes that show their position. */
export function pattern(count: number, seed: number): Uint8Array {
  return Uint8Array.from({ length: count }, (_, i) => (seed * 31 + i * 7 + (i >> 8)) & 0xff);
}
