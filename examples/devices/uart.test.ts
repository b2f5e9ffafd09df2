/** The serial port in virtual time. */
import { ManualClock, open, TestHost } from 'vfio-ts';
import { expect, it } from 'vitest';
import uart, { Cause, Fifo, Uart } from './uart.ts';

/** A port at 115200 baud, a byte every 87 µs, and the bytes that it has sent. */
function port() {
  const host = new TestHost({ mode: 'intx' });
  const line = host.plug(uart());
  const sent: number[] = [];
  line.on('transmit', (byte) => void sent.push(byte));
  const registers = host.bar(0, Uart);
  registers.lcr.dlab = 1;
  registers.dll = 1;
  registers.dlm = 0;
  registers.lcr.value = 0x03;
  return { host, line, registers, sent };
}

it('has the divisor in the place of data and interrupts while DLAB is 1', () => {
  const { registers } = port();
  registers.ier.value = 0x05;
  registers.lcr.dlab = 1;
  expect([registers.dll, registers.dlm]).toEqual([1, 0]);
  registers.dlm = 0x0c;
  registers.lcr.dlab = 0;
  expect([registers.ier.value, registers.rbr]).toEqual([0x05, 0]);
});

it('is a 16550A to a driver that probes it', () => {
  const { registers } = port();
  registers.ier.value = 0xff;
  expect(registers.ier.value).toBe(0x0f);
  registers.ier.value = 0;
  registers.fcr = Fifo.ENABLE;
  expect(registers.iir).toBe(0xc0 | Cause.NONE);
  registers.mcr.value = 0x1a; // loopback, with RTS and OUT2
  expect(registers.msr.value & 0xf0).toBe(0x90);
});

it('sends the bytes of its FIFO one after another, and interrupts when it is empty', async () => {
  const { host, registers, sent } = port();
  registers.fcr = Fifo.ENABLE;
  for (const byte of [0x68, 0x69]) registers.thr = byte;
  registers.ier.transmitted = 1;
  expect([registers.lsr.holdingEmpty, host.asserted]).toEqual([0, false]);
  await host.advance(0.1);
  expect([sent, host.asserted]).toEqual([[0x68], false]);
  await host.advance(0.1);
  expect([sent, registers.lsr.empty, host.asserted]).toEqual([[0x68, 0x69], 1, true]);
  expect(registers.iir & 0x0f).toBe(Cause.TRANSMITTED);
  expect(host.asserted).toBe(false);
});

it('receives at the speed of the line, and interrupts at the trigger level', async () => {
  const { host, line, registers } = port();
  registers.fcr = Fifo.ENABLE | 0x40; // 4 bytes
  registers.ier.received = 1;
  line.inputs.receive(new TextEncoder().encode('ping'));
  await host.advance(0.3);
  expect([registers.lsr.dataReady, host.asserted]).toEqual([1, false]);
  await host.advance(0.1);
  expect(registers.iir & 0x0f).toBe(Cause.RECEIVED);
  let text = '';
  while (registers.lsr.dataReady) text += String.fromCharCode(registers.rbr);
  expect([text, host.asserted]).toEqual(['ping', false]);
});

it('interrupts for fewer bytes once the line is quiet for four characters', async () => {
  const { host, line, registers } = port();
  registers.fcr = Fifo.ENABLE | 0xc0;
  registers.ier.received = 1;
  line.inputs.receive([0x21]);
  await host.advance(0.4);
  expect(host.asserted).toBe(false);
  await host.advance(0.1);
  expect(registers.iir & 0x0f).toBe(Cause.TIMEOUT);
  expect([registers.rbr, host.asserted]).toEqual([0x21, false]);
});

it('reports an overrun when its driver does not read, until the driver has seen it', async () => {
  const { host, line, registers } = port();
  line.inputs.receive([1, 2]);
  await host.advance(1);
  expect([registers.lsr.overrun, registers.lsr.overrun]).toEqual([1, 0]);
  expect(registers.rbr).toBe(1);
});

it('loopback keeps bytes from the line', async () => {
  const { host, line, registers, sent } = port();
  registers.mcr.loop = 1;
  registers.thr = 0x55;
  line.inputs.receive([0x77]);
  await host.advance(1);
  expect([registers.rbr, registers.lsr.dataReady, sent]).toEqual([0x55, 0, []]);
});

it('modem lines report their changes once', () => {
  const { host, line, registers } = port();
  registers.ier.modemStatus = 1;
  line.inputs.modem({ cts: true, carrier: true });
  expect([registers.iir, host.asserted]).toEqual([Cause.MODEM_STATUS, true]);
  expect([registers.msr.value, registers.msr.value, host.asserted]).toEqual([0x99, 0x90, false]);
});

it('each port has a line of its own', async () => {
  const [one, other] = [port(), port()];
  one.line.inputs.receive([9]);
  one.registers.thr = 8;
  for (const { host } of [one, other]) await host.advance(1);
  expect([one.registers.rbr, one.sent, other.registers.rbr, other.sent]).toEqual([9, [8], 0, []]);
});

it('works behind VFIO: a driver waits for its interrupt, and a program has the line', async () => {
  const clock = new ManualClock();
  using dev = await open(uart({ clockHz: 16_000_000 }), { match: '1234:1655', clock });
  const registers = dev.bar(0, Uart);
  const irq = dev.intx.enable();
  registers.ier.received = 1;
  dev.instance.inputs.receive([0x41]);
  const heard = irq.next(0);
  await clock.pass(100);
  await heard;
  expect([registers.iir, registers.rbr]).toEqual([Cause.RECEIVED, 0x41]);
});
