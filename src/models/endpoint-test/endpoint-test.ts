/**
 * The card that Linux's stock driver `pci_endpoint_test` expects: six BARs of memory, INTx, 32 MSI
 * and 2048 MSI-X, transfers of any length with checksums, a doorbell, and BARs whose halves can be
 * exchanged. Linux itself plays this card on boards with an endpoint controller
 * (pci-epf-test); this one needs no board.
 *
 * A write to `command` runs the command and sends the interrupt that `irqType` and `irqNumber`
 * name. INTx is a pulse, as an endpoint controller sends it: the driver has no register that would
 * lower the pin.
 *
 * Differences from Linux's card: a command begins at once (Linux polls each millisecond),
 * FLAG_USE_DMA changes nothing, the doorbell is a register of BAR 0, and the halves of a BAR are
 * exchanged by copying, which a driver cannot distinguish from a second mapping.
 *
 * @see linux/Documentation/PCI/endpoint/pci-test-function.rst
 */
import {
  EndpointTestCapability as Capability,
  EndpointTestCommand as Command,
  ENDPOINT_TEST_IDS,
  EndpointTestRegisters,
  EndpointTestIrq as Irq,
  NO_DOORBELL_BAR,
  EndpointTestStatus as Status,
  subrangeSignature,
} from '../../abi/endpoint-test.ts';
import { hex } from '../../base/check.ts';
import type { DeviceModel } from '../../pci/declaration.ts';
import { bar, memory } from '../kit/bar.ts';
import { device } from '../kit/device.ts';
import type { Dev } from '../kit/device-spec.ts';
import { copyAll, readAll, type Transferred, writeAll } from './transfers.ts';

/** MSI-X vectors, and the place of their table and pending bits in BAR 0. */
const MSIX = { vectors: 2048, bar: 0, tableOffset: 0x8000, pbaOffset: 0x1_0000 } as const;
const MSI_VECTORS = 32;

const bar0 = bar('128K', EndpointTestRegisters, {
  capabilities: { reset: Object.values(Capability).reduce((all, bit) => all | bit, 0) },
  doorbellBar: { reset: NO_DOORBELL_BAR },
});
/** Sizes of Linux's card. */
const bars = { bar0, bar1: memory('128K'), bar2: memory('128K'), bar3: memory('128K'), bar4: memory('128K'), bar5: memory('1M') };

/** The value that rings the doorbell. */
const DOORBELL_DATA = 0x0b;

/** Readers of events see transfers. */
const commands = {
  read: { source: 'bigint', size: 'number' },
  write: { destination: 'bigint', size: 'number' },
  copy: { source: 'bigint', destination: 'bigint', size: 'number' },
} as const;

interface State {
  /** BARs whose halves are exchanged, a bit each. */
  exchanged: number;
}

type Card = Dev<typeof bars, State, undefined, object, typeof commands>;

/** The endpoint test function. */
export function endpointTest(): DeviceModel {
  return device({
    id: `${hex4(ENDPOINT_TEST_IDS.vendor)}:${hex4(ENDPOINT_TEST_IDS.device)}`,
    name: 'endpoint-test',
    class: 0xff0000,
    intx: 'A',
    msi: MSI_VECTORS,
    msix: MSIX,
    bars,
    commands,
    state: (): State => ({ exchanged: 0 }),
    on: {
      'bar0.command': {
        async serial(dev) {
          const { bar0 } = dev;
          const { command } = bar0;
          if (command === 0) return;
          bar0.command = 0;
          bar0.status = 0;
          if (bar0.irqType > Irq.MSIX) {
            dev.log.log('warn', `command ${hex(command)} has interrupt type ${bar0.irqType}, which does not exist; nothing was done`);
            return;
          }
          const run = Object.hasOwn(actions, command) ? actions[command]! : null;
          if (run === null) {
            dev.log.log('warn', `there is no command ${hex(command)}; nothing was done`);
            return;
          }
          const bits = await run(dev);
          bar0.status |= bits;
          interrupt(dev);
        },
      },
      'bar0.doorbell'(dev, data) {
        const { bar0 } = dev;
        if (bar0.doorbellBar === NO_DOORBELL_BAR || data !== DOORBELL_DATA) return;
        bar0.status |= Status.DOORBELL_SUCCESS;
        interrupt(dev);
      },
    },
    migration: true,
  });
}

/** The commands by their value. Each gives the bits that it sets in `status`. */
const actions: Readonly<Record<number, (dev: Card) => number | Promise<number>>> = {
  [Command.RAISE_INTX]: () => 0,
  [Command.RAISE_MSI]: () => 0,
  [Command.RAISE_MSIX]: () => 0,
  [Command.READ]: read,
  [Command.WRITE]: write,
  [Command.COPY]: copy,
  [Command.ENABLE_DOORBELL]({ bar0 }) {
    bar0.doorbellOffset = EndpointTestRegisters.doorbell.offset;
    bar0.doorbellData = DOORBELL_DATA;
    bar0.doorbellBar = 0;
    return Status.DOORBELL_ENABLE_SUCCESS;
  },
  [Command.DISABLE_DOORBELL]({ bar0 }) {
    if (bar0.doorbellBar === NO_DOORBELL_BAR) return Status.DOORBELL_DISABLE_FAIL;
    bar0.doorbellBar = NO_DOORBELL_BAR;
    return Status.DOORBELL_DISABLE_SUCCESS;
  },
  [Command.SUBRANGE_SETUP](dev) {
    const { state } = dev;
    const number = dev.bar0.size;
    const bytes = memoryOf(dev, number);
    if (bytes === null) return Status.SUBRANGE_SETUP_FAIL;
    state.exchanged |= 1 << number;
    for (const half of [0, 1]) halfOf(bytes, half).fill(subrangeSignature(number, half));
    return Status.SUBRANGE_SETUP_SUCCESS;
  },
  [Command.SUBRANGE_CLEAR](dev) {
    const { state } = dev;
    const number = dev.bar0.size;
    const bytes = memoryOf(dev, number);
    if (bytes === null || (state.exchanged & (1 << number)) === 0) return Status.SUBRANGE_CLEAR_FAIL;
    state.exchanged &= ~(1 << number);
    const low = halfOf(bytes, 0).slice();
    halfOf(bytes, 0).set(halfOf(bytes, 1));
    halfOf(bytes, 1).set(low);
    return Status.SUBRANGE_CLEAR_SUCCESS;
  },
};

async function read(dev: Card): Promise<number> {
  const { bar0 } = dev;
  const { size, checksum } = bar0;
  const source = address(bar0.sourceLow, bar0.sourceHigh);
  const command = dev.begin('read', { source, size });
  const done = await readAll(dev, source, size);
  const wrong = done.fault === null && done.checksum !== checksum;
  command.end(wrong ? 'wrong checksum' : outcome(done));
  return (wrong || done.fault !== null ? Status.READ_FAIL : Status.READ_SUCCESS) | faultBits(done);
}

async function write(dev: Card): Promise<number> {
  const { bar0 } = dev;
  const { size } = bar0;
  const destination = address(bar0.destinationLow, bar0.destinationHigh);
  const command = dev.begin('write', { destination, size });
  const done = await writeAll(dev, destination, size);
  dev.bar0.checksum = done.checksum;
  command.end(outcome(done));
  return (done.fault === null ? Status.WRITE_SUCCESS : Status.WRITE_FAIL) | faultBits(done);
}

async function copy(dev: Card): Promise<number> {
  const { bar0 } = dev;
  const { size } = bar0;
  const [source, destination] = [address(bar0.sourceLow, bar0.sourceHigh), address(bar0.destinationLow, bar0.destinationHigh)];
  const command = dev.begin('copy', { source, destination, size });
  const done = await copyAll(dev, source, destination, size);
  command.end(outcome(done));
  return (done.fault === null ? Status.COPY_SUCCESS : Status.COPY_FAIL) | faultBits(done);
}

/** Sends the interrupt that the driver has asked for. The status says so before it is sent. */
function interrupt({ bar0, irq, log }: Card): void {
  bar0.status |= Status.IRQ_RAISED;
  const { irqType, irqNumber } = bar0;
  if (irqType === Irq.INTX) {
    irq.raise();
    irq.lower();
    return;
  }
  const mode = irqType === Irq.MSI ? 'msi' : 'msix';
  if (irq.mode !== mode || irqNumber === 0 || irqNumber > irq.vectors) {
    const there = irq.mode === mode ? `the driver has ${irq.vectors}` : `the driver has enabled ${irq.mode}`;
    log.log('warn', `there is no ${mode} message ${irqNumber} to send: ${there}`);
    return;
  }
  irq.trigger(irqNumber - 1);
}

/** The bytes of BAR `number`; null for the registers' own BAR and for no BAR. */
function memoryOf(dev: Card, number: number): Uint8Array | null {
  const { bar1, bar2, bar3, bar4, bar5 } = dev;
  return number === 0 ? null : ([bar1, bar2, bar3, bar4, bar5][number - 1] ?? null);
}

function halfOf(bytes: Uint8Array, half: number): Uint8Array {
  const middle = bytes.length / 2;
  return bytes.subarray(half * middle, (half + 1) * middle);
}

function faultBits({ fault }: Transferred): number {
  return fault === null ? 0 : fault === 'source' ? Status.SOURCE_INVALID : Status.DESTINATION_INVALID;
}

function outcome({ fault }: Transferred): string {
  return fault === null ? 'ok' : `DMA fault at the ${fault}`;
}

function address(low: number, high: number): bigint {
  return (BigInt(high) << 32n) | BigInt(low);
}

function hex4(value: number): string {
  return value.toString(16).padStart(4, '0');
}
