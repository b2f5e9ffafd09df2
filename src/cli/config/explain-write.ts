/** `vfio explain-write`: where each bit of a write to config space lands, and why. */
import type { CommandContext } from '../command.ts';
import { json, type Terminal } from '../terminal.ts';
import { tokenOf, type VfTokenOptions } from '../vf-token-file.ts';
import { type ConfigTarget, configTarget, devicesIn } from './config-target.ts';

type Explanation = ReturnType<ConfigTarget['explain']>;

interface Options extends VfTokenOptions {
  readonly machine?: string;
  readonly width?: '1' | '2' | '4';
  readonly json?: boolean;
  readonly select?: string;
  readonly sysfs?: string;
}

export async function explainWrite(
  { terminal }: CommandContext,
  options: Options,
  address: string,
  offsetText: string,
  valueText: string,
): Promise<undefined> {
  const value = Number(valueText);
  const width = options.width === undefined ? widthOf(valueText, value) : (Number(options.width) as 1 | 2 | 4);
  const { machine, select, sysfs } = options;
  const target = await configTarget(address, {
    machine,
    select,
    token: tokenOf(options, terminal),
    ...(sysfs === undefined ? {} : { sysfs: devicesIn(sysfs) }),
  });
  const explanation = target.explain(Number(offsetText), width, value);
  for (const warning of target.warnings()) terminal.err(`${target.bdf}: ${warning}`);
  if (options.json === true) json(terminal, 'vfio-ts/explain-write/1', { bdf: target.bdf, ...explanation });
  else print(target.bdf, explanation, terminal);
}

/** 0x04 is a byte, 0x0004 a word, 0x00000004 a doubleword; decimal numbers take what they need. */
function widthOf(text: string, value: number): 1 | 2 | 4 {
  const digits = /^0x/i.test(text) ? text.length - 2 : value.toString(16).length;
  return digits <= 2 ? 1 : digits <= 4 ? 2 : 4;
}

const x = (value: number, width: number) => `0x${value.toString(16).padStart(width * 2, '0')}`;

function print(bdf: string, e: Explanation, { out, paint }: Terminal): void {
  const colours = { virtual: paint.cyan, hardware: paint.green, 'hardware read-only': paint.yellow, dropped: paint.red };
  out(paint.bold(`${bdf}: write ${x(e.value, e.width)} to ${x(e.offset, 1)}, ${e.width} byte${e.width === 1 ? '' : 's'}, ${e.where}`));
  const names = e.bits.map((b) => `${b.register}[${b.msb === b.lsb ? b.msb : `${b.msb}:${b.lsb}`}]`);
  const width = Math.max(...names.map((n) => n.length));
  e.bits.forEach((b, i) => {
    const digits = Math.ceil((b.msb - b.lsb + 1) / 4);
    const h = (value: number) => value.toString(16).padStart(digits, '0');
    const change = `${h(b.before)} -> ${h(b.after)}`.padEnd(20);
    out(`  ${names[i]!.padEnd(width)}  ${change}  ${colours[b.landing](b.landing.padEnd(18))}  ${paint.dim(b.why)}`);
  });
  for (const t of e.triggers) out(`  ${paint.yellow(t.trigger)}: ${t.meaning}`);
  if ('effects' in e) {
    for (const effect of e.effects) out(`  effect: ${effect}`);
    out(`reads back ${x(e.readsBack, e.width)}`);
  }
}
