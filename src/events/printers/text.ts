/**
 * Text for people, one line an event: seconds since the first event, the device, words.
 *
 *         0.000123  0000:00:04.0  write32 BAR 0+0x8 ← 0x5
 */
import type { VfioEvent } from '../../abi/event.ts';
import { printable } from '../../base/printable.ts';
import { wordsOf } from '../kinds.ts';
import { boundedText } from './bounds.ts';
import { formatFiles } from './format-files.ts';
import type { EventFormat, EventPrinter, PrinterOptions } from './printer.ts';

/** Width of `0000:00:04.0`, and the most that longer names move the words to the right. */
const DEVICE_WIDTH = { least: 12, most: 32 } as const;

/** `    0.000123`: seconds, as every line of text begins. */
export function secondsColumn(ns: number): string {
  return (ns / 1e9).toFixed(6).padStart(12);
}

class TextPrinter implements EventPrinter {
  readonly #describe: PrinterOptions['describe'];
  #beganNs: number | null = null;
  #width: number = DEVICE_WIDTH.least;

  constructor({ describe, beganNs }: PrinterOptions) {
    this.#describe = describe;
    this.#beganNs = beganNs ?? null;
  }

  begin(): string {
    return '';
  }

  event(event: VfioEvent): string {
    this.#beganNs ??= event.timeNs;
    const device = printable(boundedText(event.device, 128));
    this.#width = Math.max(this.#width, Math.min(device.length, DEVICE_WIDTH.most));
    const words = printable(boundedText(this.#wordsOf(event)));
    return `${secondsColumn(event.timeNs - this.#beganNs)}  ${device.padEnd(this.#width)}  ${words}\n`;
  }

  #wordsOf(event: VfioEvent): string {
    if (event.kind === 'message' && this.#describe !== undefined) return this.#describe(event);
    if (event.kind !== 'note') return wordsOf(event);
    // The column before it has the device.
    const { text, device } = event;
    return text.startsWith(`${device}: `) ? text.slice(device.length + 2) : text;
  }

  end(): string {
    return '';
  }
}

export const text: EventFormat = {
  name: 'text',
  extensions: formatFiles.text,
  help: 'lines for people',
  make: (options) => new TextPrinter(options),
};
