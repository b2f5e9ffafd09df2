/**
 * The cases that every implementation of `Device` has to pass, call by call, on an edu device: the
 * engine's in this process, and implementations that reach a device by other ways. The cases know
 * nothing but `Device`; the answers are those of Linux 7.2.
 */
import { describe } from 'vitest';
import { closingCases } from './closing.ts';
import { dmaCases, mapCases } from './dma.ts';
import { interruptCases, setIrqsCases } from './interrupts.ts';
import { migrationCases } from './migration.ts';
import { configCases, controlCases, infoCases, registerCases } from './registers.ts';
import type { ConformanceSubject } from './subject.ts';

/**
 * @param open opens a device of its own for each case; disposing the subject closes everything that
 *   was opened for it
 */
export function deviceConformance(name: string, open: () => Promise<ConformanceSubject>): void {
  describe(name, () => {
    infoCases(open);
    registerCases(open);
    configCases(open);
    controlCases(open);
    setIrqsCases(open);
    interruptCases(open);
    mapCases(open);
    dmaCases(open);
    migrationCases(open);
    closingCases(open);
  });
}
