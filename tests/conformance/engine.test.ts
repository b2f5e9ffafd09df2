/** The conformance cases on the engine's own device file. */
import { deviceConformance } from './device-conformance.ts';
import { byGroup, byIommufd, fakes, real } from './engine-subject.ts';

deviceConformance('engine, with fakes', () => byGroup(fakes()));
deviceConformance('engine, by iommufd', () => byIommufd(fakes()));
deviceConformance('engine, a virtual function', () => byGroup(fakes(), true));
deviceConformance('engine, with eventfds and memfds', () => byGroup(real()));
