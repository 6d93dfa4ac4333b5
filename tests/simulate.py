import sys, time, cProfile, pstats
from simulator import story
t=time.time()
seed,members,rekeys=[int(x) for x in sys.argv[1:4]]
def go():
    plant, s = story.tell(seed, members, rekeys)
    print(s.done, s.rounds, plant.clock.now_ms, plant.checker.counts, plant.checker.drops, plant.checker.longest_behind_ms, plant.swift.seals, plant.checker.digest)
if len(sys.argv)>4:
    p=cProfile.Profile(); 
    try: p.runcall(go)
    finally: pstats.Stats(p).sort_stats('tottime').print_stats(35)
else: go()
print(time.time()-t)
