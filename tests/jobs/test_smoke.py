from tests.jobs.greenrooms import *
import time
async def test_smoke(open_room):
    t=time.time()
    room = await open_room()
    print("started", time.time()-t)
    await room.warm()
    print("warm", time.time()-t)
    one = job()
    p = await room.started(one)
    print("joined", time.time()-t)
    room.pool.end_job(one.id, "x")
    print(await room.finished(one), room.errors)
    await room.warm()
    print("ended", time.time()-t)
