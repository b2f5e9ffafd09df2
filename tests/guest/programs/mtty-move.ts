/**
 * Moves one mtty of Linux to another, as a program in a guest: `node mtty-move.mjs FROM TO`, each a
 * UUID. The state of a serial port travels: a scratch register and the line settings. Prints facts.
 */
import { Migration, open } from 'vfio-ts/driver';

const fact = (key: string, value: unknown) => console.log(`@ mtty ${key} ${value}`);

/** Registers of the 8250 in BAR 0. */
const Uart = { LCR: 3, MCR: 4, SCR: 7 } as const;

const [from, to] = process.argv.slice(2) as [string, string];
using source = await open(`mdev:${from}`);
using target = await open(`mdev:${to}`);
const [sending, receiving] = [new Migration(source.device), new Migration(target.device)];
fact('flags', sending.flags);
fact('state', sending.state);
const registers = source.device.region(0);
registers.write8(Uart.SCR, 0x5a);
registers.write8(Uart.LCR, 0x1b);
fact('before', `${registers.read8(Uart.SCR).toString(16)} ${registers.read8(Uart.LCR).toString(16)}`);

using out = sending.go('PRE_COPY');
using into = receiving.go('RESUMING');
let moved = 0;
/** Until the end of the data, or of the data that is there while the device runs. */
function copy(): string {
  for (const piece = new Uint8Array(4096); ; ) {
    let got: number;
    try {
      got = out!.read(piece);
    } catch (error) {
      return (error as { code?: string }).code ?? String(error);
    }
    if (got === 0) return 'the end';
    into!.write(piece.subarray(0, got));
    moved += got;
  }
}
fact('precopied', copy());
sending.go('STOP_COPY');
fact('copied', copy());
fact('moved', moved > 0 ? 'some bytes' : 'nothing');
receiving.go('RUNNING');
sending.go('STOP');
fact('state.after', `${sending.state} ${receiving.state}`);
const arrived = target.device.region(0);
fact('after', `${arrived.read8(Uart.SCR).toString(16)} ${arrived.read8(Uart.LCR).toString(16)}`);
for (const [name, work] of [
  ['log.start', () => sending.startLogging([{ iova: 0n, length: 0x1000n }])],
  ['log.stop', () => sending.stopLogging()],
] as const) {
  try {
    work();
    fact(name, 'ok');
  } catch (error) {
    fact(name, (error as { code?: string }).code);
  }
}
