def spot_scores(true, predicted):
    return {"found": sum(map(int.__eq__, true, predicted)) / max(len(true), 1)}
