/** The conformance cases on Linux's VFIO as a program, for `vfio exec` and for guests. */
import { deviceConformance } from './device-conformance.ts';
import { kernelSubject, placeOf } from './kernel-subject.ts';
import { runCases } from './standalone/vitest.ts';

const place = placeOf(process.env);
deviceConformance(place.via, () => kernelSubject(place));
await runCases(process.argv[2]);
