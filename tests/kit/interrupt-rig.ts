/**
 * One function with its interrupt hardware and VFIO's side of it, without a machine: for tests of
 * interrupts.
 */
import type { InterruptSink, SetIrqs } from '../../src/abi/device.ts';
import { Command, Config, Status } from '../../src/abi/pci.ts';
import { IrqIndex } from '../../src/abi/vfio.ts';
import { ManualClock } from '../../src/base/clock.ts';
import { defaultParams, type EngineContext, type EngineParams } from '../../src/engine/context.ts';
import { FaultPlan } from '../../src/engine/fault-plan.ts';
import { Interrupts, type InterruptsOptions } from '../../src/engine/interrupts/interrupts.ts';
import { type LinuxVersion, linuxRules } from '../../src/engine/linux-version.ts';
import { EventStream } from '../../src/events/stream.ts';
import { HostIrq } from '../../src/hardware/host-irq.ts';
import { MsixTable } from '../../src/hardware/msix-table.ts';
import { msi, msix, pcie } from '../../src/pci/capabilities.ts';
import { ConfigSpace } from '../../src/pci/config-space.ts';
import type { PciDeclaration } from '../../src/pci/declaration.ts';
import { FakeEventFd, HeapMemory } from '../../src/sys/fake.ts';

export const bdf = '0000:00:04.0';

/** INTA, 4 MSI vectors, 8 MSI-X vectors in BAR 0 at 0x2000, PCI Express. */
export const everything: PciDeclaration = {
  name: 'everything',
  vendor: 0x1234,
  device: 1,
  classCode: 0xff0000,
  bars: [{ index: 0, size: 0x4000, type: 'mem32' }],
  interruptPin: 1,
  capabilities: [pcie(), msi({ vectors: 4, maskable: true }), msix({ vectors: 8, tableOffset: 0x2000, pbaOffset: 0x3000 })],
};

/** As QEMU's edu: INTA, one MSI vector, conventional PCI. */
export const conventional: PciDeclaration = { ...everything, name: 'conventional', capabilities: [msi()] };

export interface RigOptions extends Omit<Partial<InterruptsOptions>, 'ctx'> {
  readonly params?: Partial<EngineParams>;
  readonly linux?: LinuxVersion;
  readonly powered?: () => boolean;
}

export class InterruptRig {
  readonly config: ConfigSpace;
  readonly msix: MsixTable | null;
  readonly host: HostIrq;
  readonly interrupts: Interrupts;
  readonly faults = new FaultPlan();
  readonly clock = new ManualClock();
  readonly logged: string[] = [];

  constructor(declaration: PciDeclaration = everything, { params, linux, powered, ...options }: RigOptions = {}) {
    const stream = new EventStream({ clock: this.clock, log: { log: (_level, message) => this.logged.push(message) } });
    const events = stream.source(bdf);
    const ctx: EngineContext = {
      clock: this.clock,
      stream,
      events,
      params: { ...defaultParams, ...params },
      linux: linuxRules(linux),
      pageSize: 4096,
      faults: this.faults,
      allocate: HeapMemory.allocate,
    };
    this.config = new ConfigSpace(declaration);
    this.config.write(Config.COMMAND, 2, Command.MEMORY | Command.MASTER);
    this.msix = MsixTable.of(this.config);
    this.host = new HostIrq({ config: this.config, msix: this.msix, events, bdf, ...(powered === undefined ? {} : { powered }) });
    this.interrupts = new Interrupts({ bdf, ctx, config: this.config, host: this.host, msix: this.msix, ...options });
    this.interrupts.open();
  }

  /** Hardware's COMMAND.InterruptDisable. */
  get disIntx(): boolean {
    return this.config.intxDisabled;
  }

  get statusBit(): boolean {
    return (this.config.read(Config.STATUS, 2) & Status.INTERRUPT) !== 0;
  }

  set(index: number, request: Part): number {
    return this.interrupts.setIrqs({ index, start: 0, count: 1, ...request } as SetIrqs);
  }

  intx(request: Part): number {
    return this.set(IrqIndex.INTX, request);
  }

  /** Give `index` these sinks from vector `start` on. */
  arm(index: number, sinks: readonly (InterruptSink | null)[], start = 0): number {
    return this.set(index, { action: 'trigger', data: 'sinks', start, count: sinks.length, sinks });
  }

  disable(index: number): number {
    return this.set(index, { action: 'trigger', data: 'none', count: 0 });
  }
}

/** A SET_IRQS request with the fields that a test cares about. Defaults: start 0, count 1. */
export type Part = {
  readonly action: string;
  readonly data: string;
  readonly start?: number;
  readonly count?: number;
  readonly values?: unknown;
  readonly sinks?: unknown;
  readonly sources?: unknown;
};

export function eventfds(count: number): FakeEventFd[] {
  return Array.from({ length: count }, () => new FakeEventFd());
}

/**
 * The errno that `call` throws; 'none' when it throws nothing. Any other error is a bug and is
 * thrown on.
 */
