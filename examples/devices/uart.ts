/**
 * A serial port as a PCI card: a 16550A behind an I/O BAR, as Linux's 8250_pci drives it.
 *
 *     npx vfio serve ./uart.ts,clockHz=1843200 --socket-path /tmp/uart.sock
 *
 * The wire is the instance's: `instance.inputs.receive(bytes)` puts bytes on it, and the output
 * `transmit` has those that the port sends. A byte takes the time that the driver's divisor gives
 * it.
 *
 * @see National Semiconductor PC16550D, Universal Asynchronous Receiver/Transmitter with FIFOs
 */
import { bar, bit, bits, type Dev, device, type ModelView, registers, u8 } from 'vfio-ts';

export const Uart = registers({
  rbr: u8(0, 'ro'), // receiver buffer
  thr: u8(0, 'wo'), // transmitter holding register
  ier: u8(1, { received: bit(0), transmitted: bit(1), lineStatus: bit(2), modemStatus: bit(3) }),
  iir: u8(2, 'ro'), // interrupt identification
  fcr: u8(2, 'wo'), // FIFO control
  lcr: u8(3, { wordLength: bits(1, 0), stopBits: bit(2), parity: bits(5, 3), breakOn: bit(6), dlab: bit(7) }),
  mcr: u8(4, { dtr: bit(0), rts: bit(1), out1: bit(2), out2: bit(3), loop: bit(4) }),
  lsr: u8(5, { dataReady: bit(0, 'ro'), overrun: bit(1, 'ro'), holdingEmpty: bit(5, 'ro', 1), empty: bit(6, 'ro', 1) }),
  msr: u8(6, { changes: bits(3, 0, 'ro'), cts: bit(4, 'ro'), dsr: bit(5, 'ro'), ring: bit(6, 'ro'), carrier: bit(7, 'ro') }),
  scr: u8(7), // scratch
  dll: u8(0), // divisor, while LCR.DLAB is 1
  dlm: u8(1),
});

/** IIR while an interrupt is pending, the most urgent cause first. */
export const Cause = { LINE_STATUS: 0x06, RECEIVED: 0x04, TIMEOUT: 0x0c, TRANSMITTED: 0x02, MODEM_STATUS: 0x00, NONE: 0x01 } as const;
/** Bits of FCR; bits 7:6 are the trigger level. */
export const Fifo = { ENABLE: 0x01, CLEAR_RECEIVER: 0x02, CLEAR_TRANSMITTER: 0x04 } as const;

const FIFO_BYTES = 16;
const TRIGGER_LEVELS = [1, 4, 8, 14];
/** Bytes that a program may put on the wire ahead of the port. */
const WIRE_BYTES_MAX = 2 ** 20;

const divisor = { when: (uart: ModelView<typeof Uart>) => uart.lcr.dlab === 1 };
const bar0 = bar(8, Uart, { dll: { ...divisor, reset: 12 }, dlm: divisor }, { type: 'io' });

const outputs = {
  /** The port has sent a byte. */
  transmit(_byte: number) {},
};

function powerOn() {
  return {
    /** Bytes on their way to the port, and those that it has received. */
    wire: [] as number[],
    received: [] as number[],
    transmitting: [] as number[],
    fifo: false,
    triggerLevel: 1,
    /** The transmitter has become empty since the driver read IIR. */
    drained: false,
    /** The receiver has been quiet for four characters. */
    quiet: false,
  };
}

type Port = Dev<{ bar0: typeof bar0 }, ReturnType<typeof powerOn>, undefined, typeof outputs>;

export interface UartOptions {
  /**
   * Of the oscillator; the line has 1/16 of it by the divisor. Default: 1843200, for 115200 baud at
   * divisor 1.
   */
  readonly clockHz?: number;
}

export default function uart({ clockHz = 1_843_200 }: UartOptions = {}) {
  /** Start bit, data, parity, stop bits: ten bits are near enough for all of them. */
  const characterMs = ({ bar0 }: Port) => (10_000 * 16 * Math.max(1, bar0.dll | (bar0.dlm << 8))) / clockHz;

  function cause({ bar0, state }: Port): number {
    const { ier, lsr, msr } = bar0;
    if (ier.lineStatus && lsr.overrun) return Cause.LINE_STATUS;
    if (ier.received && state.received.length >= state.triggerLevel) return Cause.RECEIVED;
    if (ier.received && state.quiet && state.received.length > 0) return Cause.TIMEOUT;
    if (ier.transmitted && state.drained) return Cause.TRANSMITTED;
    if (ier.modemStatus && msr.changes) return Cause.MODEM_STATUS;
    return Cause.NONE;
  }

  /** The line status and the interrupt pin follow the FIFOs. */
  function update(dev: Port): void {
    const { bar0, irq, state } = dev;
    bar0.lsr.dataReady = state.received.length > 0 ? 1 : 0;
    bar0.lsr.holdingEmpty = state.transmitting.length === 0 ? 1 : 0;
    bar0.lsr.empty = bar0.lsr.holdingEmpty;
    if (cause(dev) === Cause.NONE) irq.lower();
    else irq.raise();
  }

  function arrive(dev: Port, byte: number): void {
    const { bar0, state } = dev;
    if (state.received.length >= (state.fifo ? FIFO_BYTES : 1)) bar0.lsr.overrun = 1;
    else state.received.push(byte);
    state.quiet = false;
    dev.schedule('quiet', 4 * characterMs(dev));
  }

  /** Modem lines of the other end, or of this one in loopback. */
  function setModem({ bar0 }: Port, lines: { cts: number; dsr: number; ring: number; carrier: number }): void {
    const { msr } = bar0;
    const before = msr.value;
    Object.assign(msr, lines);
    msr.changes |= (before ^ msr.value) >> 4;
  }

  return device({
    id: '1234:1655',
    name: 'uart',
    class: 0x070002, // serial controller, 16550-compatible
    pcie: false,
    intx: 'A',
    bars: { bar0 },
    state: powerOn,
    outputs,
    inputs: {
      /** Puts bytes on the wire to the port. */
      receive(dev, bytes: Iterable<number>) {
        const { wire } = dev.state;
        const idle = wire.length === 0;
        for (const byte of bytes) if (wire.length < WIRE_BYTES_MAX) wire.push(byte & 0xff);
        if (idle && wire.length > 0) dev.schedule('wire', characterMs(dev));
      },
      /** The other end's modem lines. */
      modem(dev, lines: { readonly cts?: boolean; readonly dsr?: boolean; readonly ring?: boolean; readonly carrier?: boolean }) {
        const { cts, dsr, ring, carrier } = dev.bar0.msr;
        const now = (line: boolean | undefined, before: number) => (line === undefined ? before : Number(line));
        setModem(dev, {
          cts: now(lines.cts, cts),
          dsr: now(lines.dsr, dsr),
          ring: now(lines.ring, ring),
          carrier: now(lines.carrier, carrier),
        });
        update(dev);
      },
    },
    read: {
      'bar0.rbr'(dev) {
        const byte = dev.state.received.shift() ?? 0;
        dev.state.quiet &&= dev.state.received.length > 0;
        update(dev);
        return byte;
      },
      'bar0.iir'(dev) {
        const now = cause(dev);
        if (now === Cause.TRANSMITTED) dev.state.drained = false;
        update(dev);
        return now | (dev.state.fifo ? 0xc0 : 0);
      },
      'bar0.lsr'(dev, stored) {
        dev.bar0.lsr.overrun = 0;
        update(dev);
        return stored;
      },
      'bar0.msr'(dev, stored) {
        dev.bar0.msr.changes = 0;
        update(dev);
        return stored;
      },
    },
    on: {
      'bar0.thr'(dev, byte) {
        const { state } = dev;
        state.drained = false;
        if (state.transmitting.length < (state.fifo ? FIFO_BYTES : 1)) state.transmitting.push(byte);
        if (state.transmitting.length === 1) dev.schedule('shift', characterMs(dev));
        update(dev);
      },
      'bar0.ier'(dev, written, before) {
        // An empty transmitter interrupts at once when a driver asks for its interrupt.
        if ((written & ~before & 0x02) !== 0 && dev.bar0.lsr.holdingEmpty) dev.state.drained = true;
        update(dev);
      },
      'bar0.fcr'(dev, control) {
        const { state } = dev;
        const fifo = (control & Fifo.ENABLE) !== 0;
        if (fifo !== state.fifo || (control & Fifo.CLEAR_RECEIVER) !== 0) state.received.length = 0;
        if (fifo !== state.fifo || (control & Fifo.CLEAR_TRANSMITTER) !== 0) {
          state.transmitting.length = 0;
          dev.cancel('shift');
          state.drained = true;
        }
        state.fifo = fifo;
        state.triggerLevel = fifo ? (TRIGGER_LEVELS[control >> 6] ?? 1) : 1;
        update(dev);
      },
      'bar0.mcr'(dev) {
        const { mcr } = dev.bar0;
        if (mcr.loop) setModem(dev, { cts: mcr.rts, dsr: mcr.dtr, ring: mcr.out1, carrier: mcr.out2 });
        update(dev);
      },
    },
    timers: {
      /** A byte has left the transmitter. */
      shift(dev) {
        const { bar0, outputs, state } = dev;
        const byte = state.transmitting.shift();
        if (byte === undefined) return;
        if (bar0.mcr.loop) arrive(dev, byte);
        else outputs.transmit(byte);
        if (state.transmitting.length > 0) dev.schedule('shift', characterMs(dev));
        else state.drained = true;
        update(dev);
      },
      /** A byte has come over the wire. */
      wire(dev) {
        const byte = dev.state.wire.shift();
        if (byte !== undefined && !dev.bar0.mcr.loop) arrive(dev, byte);
        if (dev.state.wire.length > 0) dev.schedule('wire', characterMs(dev));
        update(dev);
      },
      quiet(dev) {
        dev.state.quiet = true;
        update(dev);
      },
    },
    migration: true,
  });
}
