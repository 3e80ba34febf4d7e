import struct,sys,gzip
p=sys.argv[1]
d=(gzip.open(p) if p.endswith('gz') else open(p,'rb')).read()
o=0
def rd(f):
    global o
    v=struct.unpack_from('<'+f,d,o);o+=struct.calcsize('<'+f);return v[0]
def s():
    global o
    n=rd('Q');v=d[o:o+n];o+=n;return v.decode('utf8','replace')
F={0:'B',1:'b',2:'H',3:'h',4:'I',5:'i',6:'f',7:'?',10:'Q',11:'q',12:'d'}
def val(t):
    if t==8:return s()
    if t==9:
        e=rd('I');n=rd('Q');return [val(e) for _ in range(n)]
    return rd(F[t])
print(rd('I'),rd('I'));nt=rd('Q');nk=rd('Q')
for _ in range(nk):
    k=s();t=rd('I');v=val(t)
    if isinstance(v,list): print(k,t,len(v),[str(x)[:20] for x in v[:8]])
    else: print(k,t,repr(v)[:300])
c={}
for i in range(nt):
    n=s();nd=rd('I');dims=[rd('Q') for _ in range(nd)];t=rd('I');off=rd('Q')
    if i<14 or '.0.' in n: print(n,dims,t,off)
    c[t]=c.get(t,0)+1
print(c,o)
