/**
 * The state of a whole card without virtual functions: registers, the contents of its EEPROM, the
 * PHY, time, and what the rooms keep beside their registers.
 */
import { EEPROM_WORDS } from '../../../abi/82576-phy.ts';
import { decodePlain, encodePlain } from '../../kit/plain-data.ts';
import type { Card } from '../card.ts';
import { VECTORS } from '../interrupts/moderation.ts';
import { PF } from '../parts.ts';
import { DAY_NS, fieldsOf, flagOf, halvesOf, loadRoom, numberOf, timesOf, wordsOf, wrong } from './plain.ts';

const PHY_REGISTERS = 32;
const U32 = 0xffff_ffff;
const ALL_VECTORS = 2 ** VECTORS - 1;

/** State of the PF beside its card. */
export interface PhysicalState {
  /** Nanoseconds left of the TCP timer; 0: it does not run. */
  readonly timerNs: number;
  /** IOADDR (8.1.2). */
  readonly address: number;
}

export function saveCard(card: Card, { timerNs, address }: PhysicalState): Uint8Array {
  const at: number[] = [];
  const { words } = card.registers;
  for (let i = 0; i < words.length; i++) if (words[i] !== 0) at.push(i);
  return encodePlain({
    at: Uint32Array.from(at),
    words: Uint32Array.from(at, (i) => words[i]!),
    eeprom: card.eeprom.contents,
    phy: card.phy.registers,
    link: card.link.save(),
    interrupts: card.interrupts.save(),
    time: card.time.now,
    timerNs,
    address,
    parts: card.parts.map((part) => part.save?.(PF)),
  });
}

/** Registers that no room has declared stay 0. */
export function loadCard(card: Card, bytes: Uint8Array): PhysicalState {
  const state = fieldsOf(decodePlain(bytes), 'fields');
  const at = wordsOf(state, 'at');
  const words = wordsOf(state, 'words', at.length);
  const eeprom = halvesOf(state, 'eeprom', EEPROM_WORDS);
  const phy = halvesOf(state, 'phy', PHY_REGISTERS);
  const link = fieldsOf(state.link, 'link');
  const interrupts = fieldsOf(state.interrupts, 'interrupts');
  const left = timesOf(interrupts, 'left', VECTORS);
  const timerNs = numberOf(state, 'timerNs', DAY_NS);
  const address = numberOf(state, 'address', U32) >>> 0;
  const { parts, time } = state;
  if (!Array.isArray(parts) || parts.length !== card.parts.length) throw wrong('other rooms');
  if (typeof time !== 'bigint' || time < 0n) throw wrong('a wrong time');
  card.registers.load(at, words);
  card.eeprom.contents.set(eeprom);
  card.phy.registers.set(phy);
  card.link.load({
    negotiated: flagOf(link, 'negotiated'),
    phyUp: flagOf(link, 'phyUp'),
    lost: flagOf(link, 'lost'),
    up: flagOf(link, 'up'),
  });
  card.interrupts.load(
    flagOf(interrupts, 'level'),
    numberOf(interrupts, 'seen', U32),
    numberOf(interrupts, 'seenCauses', U32),
    numberOf(interrupts, 'waiting', ALL_VECTORS),
    left,
  );
  card.time.load(time);
  for (const [i, part] of card.parts.entries()) loadRoom(() => part.load?.(PF, parts[i]));
  card.refresh();
  return { timerNs, address };
}
